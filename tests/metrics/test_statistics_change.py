import numpy as np

from microevo.metrics import persistence_rmse, rms_change


def test_change_of_frames_that_differ_by_known_steps() -> None:
    levels = np.array([0.0, 0.1, 0.1, -0.3])
    frames = np.broadcast_to(levels[:, None, None], (2, 4, 5, 6))
    np.testing.assert_allclose(rms_change(frames), [[0.1, 0.0, 0.4]] * 2)


def test_change_is_a_root_of_a_mean_of_squares() -> None:
    frames = np.zeros((2, 2, 2), dtype=np.float32)
    frames[1] = [[3, 0], [0, 4]]
    np.testing.assert_allclose(rms_change(frames), [2.5])


def test_persistence_is_the_mean_over_windows_of_the_error_of_their_tenth_frame() -> None:
    t = np.arange(40.0)
    frames = np.broadcast_to((t**2)[:, None, None], (40, 3, 3))
    last = np.array([9, 13, 17, 21])
    expected = [((last + lead) ** 2 - last**2).mean() for lead in (1, 10, 18)]
    np.testing.assert_allclose(persistence_rmse(frames, (1, 10, 18), starts=(0, 4, 8, 12)), expected)
    np.testing.assert_allclose(persistence_rmse(frames, (2,), n_past=1, starts=(5,)), [7**2 - 5**2])


def test_windows_beyond_the_frames_are_not_made_up() -> None:
    found = persistence_rmse(np.zeros((2, 31, 3, 3)), (9, 10), starts=(0, 4, 8, 12))
    assert found[:, 0].tolist() == [0.0, 0.0]
    assert np.isnan(found[:, 1]).all()
