"""The long table of a test: the rows of a model, and of the repetition of the last input frame."""

import numpy as np
import torch
from toy_windows import loader, trainer, windows

from microevo.callbacks import LeadTable
from microevo.metrics import relative_l2, squared_error
from microevo.models import FCN


def test_persistence_repeats_the_last_input_frame():
    batch, table = windows(n_past=4, n_future=3, channels=2), LeadTable(write=False)
    model = FCN(n_past=4, channels=2, horizon=3, hid_s=2, hid_t=4, n_t=2)
    trainer(callbacks=[table]).test(model, loader(batch, 3), verbose=False)
    keys = ["trajectory", "start", "lead"]
    rows = table.table.set_index(["model", "metric"]).sort_index()
    with torch.no_grad():
        own = model.eval()(batch.past, 3)
    for name, forecast in {
        "Persistence": batch.past[:, -1:].expand_as(batch.future),
        "FCN": own,
    }.items():
        for metric, function in {"mse": squared_error, "relative_l2": relative_l2}.items():
            found = rows.loc[(name, metric)].sort_values(keys)
            assert found["trajectory"].tolist() == np.repeat(batch.trajectory, 3).tolist()
            assert found["start"].tolist() == np.repeat(batch.start, 3).tolist()
            assert found["lead"].tolist() == [1, 2, 3] * 4
            np.testing.assert_allclose(found["value"], function(forecast, batch.future).numpy().ravel(), rtol=1e-5)
