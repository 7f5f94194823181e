"""Forecasters: each turns past frames into any number of future ones."""

from microevo.models.convlstm import ConvLSTM, ConvLSTMNet
from microevo.models.fcn import FCN, SimVPNet, rollout
from microevo.models.forecaster import Forecaster
from microevo.models.persistence import Persistence
from microevo.models.predrnn import PredRNN, PredRNNNet
from microevo.models.recurrent import RecurrentForecaster

__all__ = [
    "FCN",
    "ConvLSTM",
    "ConvLSTMNet",
    "Forecaster",
    "Persistence",
    "PredRNN",
    "PredRNNNet",
    "RecurrentForecaster",
    "SimVPNet",
    "rollout",
]
