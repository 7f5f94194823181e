"""Forecasters: models that continue a sequence of past frames by any number of future frames."""

from microevo.models.convlstm import ConvLSTM, ConvLSTMNet
from microevo.models.fcn import FCN, SimVPNet, rollout
from microevo.models.forecaster import Forecaster
from microevo.models.load import load_model
from microevo.models.local_net import LocalNet, StepNet
from microevo.models.persistence import Persistence
from microevo.models.predrnn import PredRNN, PredRNNNet
from microevo.models.recurrent import RecurrentForecaster

__all__ = [
    "FCN",
    "ConvLSTM",
    "ConvLSTMNet",
    "Forecaster",
    "LocalNet",
    "Persistence",
    "PredRNN",
    "PredRNNNet",
    "RecurrentForecaster",
    "SimVPNet",
    "StepNet",
    "load_model",
    "rollout",
]
