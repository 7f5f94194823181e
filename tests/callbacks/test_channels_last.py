import torch
from toy_windows import loader, trainer, windows

from microevo.callbacks import ChannelsLast
from microevo.models import FCN


def test_weights_change_their_layout_and_not_their_values():
    torch.manual_seed(0)
    model = FCN(hid_s=4, hid_t=8, n_s=2, n_t=2, n_past=4, horizon=4)
    model.eval()
    past, before = windows().past, {name: weight.clone() for name, weight in model.state_dict().items()}
    expected = model(past, 4)
    trainer(callbacks=[ChannelsLast()]).validate(model, loader(windows()), verbose=False)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    convolutions = [weight for weight in model.parameters() if weight.ndim == 4]
    assert convolutions
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)
    torch.testing.assert_close(model.eval()(past, 4), expected)
