"""Many grains in few order parameters: grains of one field are kept apart, and know their numbers."""

import numpy as np
from jaxtyping import Bool, Float, Int

from microevo.processes.kernels import grain_growth as kernel

START_DISTANCE = 3.5  # between two grains of one field at the start and after a move [l]
CONFLICT_DISTANCE = 2.5  # at which one of them moves to another field [l]
LOOKS = 3  # at every grain when colouring
GHOST = 1e-2  # a field this large inside a grain is taken, if only by a grain that has just vanished


class SharedOrder:
    """The order parameters of one trajectory, their grains, and which field holds which grain.

    The cost of a step is that of the fields, however many grains there are (Krill & Chen, Acta Mater. 50 (2002) 3057;
    Vedantam & Patnaik, Phys. Rev. E 73 (2006) 016703). Two grains of one field that met would merge. Fields are
    therefore given out by a greedy colouring of the grains, and `reassign` moves a grain that comes too near to another
    of its field into a field that is free around it.

    Args:
        ids: Grain number of each cell, 0 to n - 1.
        fields: Number of fields; None for one per grain, the model without sharing.
        length: `l = sqrt(8 k)`, the scale of the distances between grains of one field [cells].
        dtype: Floating-point type of the order parameters.
        walls: Whether the border of the grid reflects; otherwise it is periodic.

    Attributes:
        eta: Order parameters (H, W, Q).
        ids: Grain number of each cell; numbers of vanished grains are not given out again.
        field_of: Field of each grain.
        squares: Sum of the squared order parameters (H, W) when the grains were last tracked.
        moves: Grains moved to another field so far.
        unresolved: Pairs of grains found too near to each other while no field was free for either.
    """

    def __init__(
        self, ids: Int[np.ndarray, "H W"], fields: int | None, length: float, dtype: np.dtype, walls: bool = False
    ) -> None:
        self.ids = np.ascontiguousarray(ids, dtype=np.int32)
        self.length, self.walls = length, walls
        self.moves = self.unresolved = 0
        count = int(self.ids.max()) + 1
        self.dense = fields is None or fields >= count
        self.conflict_disc = kernel.disc(CONFLICT_DISTANCE * length)
        self.halo_disc = kernel.disc(START_DISTANCE * length)
        self.field_of = (
            np.arange(count, dtype=np.int32) if self.dense else self._assign_order_parameters(fields or count)
        )
        self.eta = np.zeros((*self.ids.shape, fields or count), dtype)
        np.put_along_axis(self.eta, self.field_of[self.ids][..., None].astype(np.int64), 1, axis=2)
        self.squares = np.ones(self.ids.shape, dtype)

    @property
    def areas(self) -> Int[np.ndarray, " grains"]:
        """Cells of each grain, 0 for those that vanished."""
        return np.bincount(self.ids.ravel(), minlength=len(self.field_of))

    def track(self) -> bool:
        """Bring `ids` and `squares` up to date with `eta`; False if it is not finite."""
        return bool(kernel.track(self.eta, self.ids, self.field_of, self.halo_disc, self.squares, self.walls))

    def reassign(self) -> float:
        """Move grains that come too near to another of their field.

        Returns:
            Distance of the nearest pair that no field was free for, or infinity [cells].
        """
        if self.dense:
            return np.inf
        close = kernel.near(self.ids, self.field_of, self.conflict_disc, self.walls)
        pairs = np.argwhere(np.triu(np.isfinite(close)))
        if not len(pairs):
            return np.inf
        areas = self.areas
        distances = self._distances(self.field_of, START_DISTANCE)
        nearest = np.inf
        for i, j in pairs[np.argsort(close[tuple(pairs.T)], kind="stable")]:
            if self.field_of[i] != self.field_of[j]:
                continue  # one of them has just moved
            for grain in (i, j) if areas[i] <= areas[j] else (j, i):
                taken = self.eta[self.ids == grain].max(axis=0) > GHOST
                field, distance = freest_field(distances[grain], self.field_of, taken)
                if distance > CONFLICT_DISTANCE * self.length:
                    kernel.move(self.eta, self.ids, self.field_of, grain, field, self.halo_disc, self.walls)
                    self.moves += 1
                    break
            else:
                self.unresolved += 1
                nearest = min(nearest, float(np.sqrt(close[i, j])))
        return nearest

    def _assign_order_parameters(self, fields: int) -> Int[np.ndarray, " grains"]:
        """An order parameter for each grain, those with most neighbours first."""
        field_of = np.full(int(self.ids.max()) + 1, -1, dtype=np.int32)
        distances = self._distances(field_of, 2 * START_DISTANCE)
        neighbours = (distances <= START_DISTANCE * self.length).sum(axis=1)
        # Once all have a field, a second and third look use the room that the greedy order left.
        for grain in np.tile(np.argsort(-neighbours, kind="stable"), LOOKS):
            field_of[grain] = -1
            field_of[grain], _ = freest_field(distances[grain], field_of, np.zeros(fields, dtype=bool))
        mates = np.triu(field_of[:, None] == field_of)
        self.unresolved += int((mates & (distances <= CONFLICT_DISTANCE * self.length)).sum())
        return field_of

    def _distances(self, field_of: Int[np.ndarray, " grains"], reach: float) -> Float[np.ndarray, "grains grains"]:
        """Between any two grains, infinite beyond `reach` [l]; in cells."""
        disc = kernel.disc(reach * self.length)
        return np.sqrt(kernel.near(self.ids, np.zeros_like(field_of), disc, self.walls))


def freest_field(
    distances: Float[np.ndarray, " grains"], field_of: Int[np.ndarray, " grains"], taken: Bool[np.ndarray, " fields"]
) -> tuple[int, float]:
    """The field whose nearest grain is farthest, of equals that of fewest grains, and that distance.

    Args:
        distances: From one grain to every grain, infinite to itself.
        field_of: Field of each grain, -1 if it has none yet.
        taken: Fields that count as being at distance 0.
    """
    held = field_of >= 0
    nearest = np.where(taken, 0, np.inf)
    np.minimum.at(nearest, field_of[held], distances[held])
    grains = np.bincount(field_of[held], minlength=len(taken))
    grains[nearest < nearest.max()] = len(field_of) + 1
    field = int(grains.argmin())
    return field, float(nearest[field])
