"""What is done at the paper's setting, and what of it at the tiny one of the rehearsal."""

from dataclasses import dataclass
from typing import Any

# The networks that are compared, and what their experiments and models are called in `experiments/`.
NETWORKS = {"FCN": "fcn", "ConvLSTM": "convlstm", "PredRNN": "predrnn", "PredRNN++": "predrnnpp", "LocalNet": "local"}


@dataclass(frozen=True)
class Data:
    """A store to simulate.

    Attributes:
        recipe: Config of `simulate`, from the top of the project.
        splits: Trajectories of each split; `train` is the most that is made, and fewer where the minutes are few.
        least: Fewest training trajectories worth training on.
        seconds: Time of one core for a trajectory.
        options: Further options of `simulate`.
    """

    recipe: str
    splits: dict[str, int]
    least: int
    seconds: float
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Sizes of everything.

    Attributes:
        data: What is simulated, by name of the process.
        tests: Frames of a size that no network was trained on, by name of the process.
        networks: Overrides of each network's settings.
        patch: Settings of the probe.
        horizon: Frames forecast in the benchmark.
        trajectories: Test trajectories of the benchmark.
        overhead: Seconds that a training takes before its first step and after its last one.
        least_training: Seconds without which a training is not begun.
        least_benchmark: Seconds without which a benchmark is not begun.
        repeats: Timed calls of the cost tables.
        trainings: Network, process and share of the minutes of each training, the most telling first.
        benchmarks: Process and share of each benchmark.
        larger: Share of each benchmark at another size.
    """

    data: dict[str, Data]
    tests: dict[str, Data]
    networks: dict[str, dict[str, Any]]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    probe_seconds: float
    pixels: int
    horizon: int
    trajectories: int
    overhead: float
    least_training: float
    least_benchmark: float
    repeats: int
    trainings: tuple[tuple[str, str, float], ...]
    benchmarks: tuple[tuple[str, float], ...]
    larger: float


FULL = Scale(
    data={
        "spinodal": Data("data/recipes/spinodal.yaml", {"train": 256, "val": 8, "test": 16}, 16, 0.08),
        "grain-growth": Data("data/recipes/grain-growth.yaml", {"train": 256, "val": 8, "test": 16}, 24, 11),
        "spinodal-published": Data("data/recipes/spinodal-published.yaml", {"train": 160, "val": 8, "test": 16}, 24, 3),
    },
    tests={
        "grain-growth": Data("data/recipes/tests/grain-growth-256.yaml", {"test": 4}, 0, 300),
        "spinodal-published": Data("data/recipes/tests/spinodal-published-256.yaml", {"test": 4}, 0, 60),
    },
    networks={},
    precisions=("bf16-mixed", "32-true"),
    batches=(32, 64, 128),
    probe_seconds=1.5,
    pixels=64,
    horizon=90,
    trajectories=16,
    overhead=12,
    least_training=30,
    least_benchmark=25,
    repeats=3,
    trainings=(
        ("FCN", "grain-growth", 0.20),
        ("FCN", "spinodal-published", 0.14),
        ("ConvLSTM", "grain-growth", 0.08),
        ("PredRNN++", "grain-growth", 0.08),
        ("LocalNet", "grain-growth", 0.05),
        ("LocalNet", "spinodal-published", 0.05),
        ("PredRNN", "grain-growth", 0.05),
        ("FCN", "spinodal", 0.03),
    ),
    benchmarks=(("grain-growth", 0.12), ("spinodal-published", 0.06), ("spinodal", 0.04)),
    larger=0.03,
)

# As few frames, cells and processes as show that everything works.
SMALL = ("--frames", "22", "--workers", "1")
TINY = Scale(
    data={
        "spinodal": Data(
            "data/recipes/spinodal.yaml",
            {"train": 8, "val": 1, "test": 2},
            2,
            0.05,
            (*SMALL, "--process.init_args.grid.shape", "[32, 32]"),
        ),
        "grain-growth": Data(
            "data/recipes/grain-growth.yaml",
            {"train": 4, "val": 1, "test": 2},
            1,
            1,
            # 32 x 32 pixels, and so a quarter of the grains
            (
                *SMALL,
                "--process.init_args.grid.shape",
                "[128, 128]",
                "--process.init_args.grains",
                "25",
                "--sample",
                "{mobility: {low: 1.1, high: 2.1, log: true}}",
            ),
        ),
        "spinodal-published": Data(
            "data/recipes/spinodal-published.yaml",
            {"train": 4, "val": 1, "test": 2},
            1,
            0.6,
            (*SMALL, "--process.init_args.grid.shape", "[64, 64]", "--process.init_args.first_frame", "5"),
        ),
    },
    tests={
        "spinodal-published": Data(
            "data/recipes/tests/spinodal-published-256.yaml",
            {"test": 1},
            0,
            2,
            (*SMALL, "--process.init_args.grid.shape", "[96, 96]", "--process.init_args.first_frame", "5"),
        ),
    },
    networks={
        "FCN": {"hid_s": 8, "hid_t": 16, "n_t": 2},
        "ConvLSTM": {"hidden": [8, 8], "filter_size": 3},
        "PredRNN": {"hidden": 8, "layers": 2, "filter_size": 3},
        "PredRNN++": {"hidden": 8, "layers": 2, "filter_size": 3},
        "LocalNet": {"widths": [8], "blocks": 2},
    },
    precisions=("32-true",),
    batches=(4, 8),
    probe_seconds=0.1,
    pixels=32,
    horizon=12,
    trajectories=2,
    overhead=4,
    least_training=6,
    least_benchmark=8,
    repeats=1,
    trainings=(
        ("FCN", "grain-growth", 0.10),
        ("FCN", "spinodal-published", 0.08),
        ("ConvLSTM", "grain-growth", 0.06),
        ("PredRNN++", "grain-growth", 0.06),
        ("LocalNet", "grain-growth", 0.06),
        ("PredRNN", "grain-growth", 0.06),
    ),
    benchmarks=(("grain-growth", 0.16), ("spinodal-published", 0.14)),
    larger=0.14,
)

SCALES = {"full": FULL, "tiny": TINY}

# The paper's limits for its FCN, 10 input frames and 90 forecast (arXiv 2602.19915), and how much faster it found it
# than PredRNN++ and ConvLSTM.
PUBLISHED = {"grain-growth": {"rmse": 0.11, "ssim": 0.86}, "spinodal-published": {"rmse": 0.10, "ssim": 0.92}}
PUBLISHED_SPEED = {"ConvLSTM": 17.6, "PredRNN++": 44.5}
