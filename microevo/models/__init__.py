"""Forecasters: models that continue a sequence of past frames by any number of future frames."""

from microevo.models.batch import WindowTransform
from microevo.models.blockwise import BlockwiseForecaster, BlockwiseNet, rollout
from microevo.models.conditioning import Conditioned
from microevo.models.convgru import ConvGRU, ConvGRUNet
from microevo.models.convlstm import ConvLSTM, ConvLSTMNet
from microevo.models.e3dlstm import E3DLSTM, E3DLSTMNet
from microevo.models.ensemble import Ensemble
from microevo.models.fcn import FCN, SimVPNet
from microevo.models.fno import FNO, FNONet
from microevo.models.forecaster import Forecaster
from microevo.models.load import load_model
from microevo.models.local_net import LocalNet
from microevo.models.minimal_cnn import MinimalCNN, MinimalCNNNet
from microevo.models.network import NetworkForecaster
from microevo.models.persistence import Persistence
from microevo.models.predrnn import PredRNN, PredRNNNet
from microevo.models.predrnnpp import PredRNNpp, PredRNNppNet
from microevo.models.recurrent import RecurrentForecaster, RecurrentNet
from microevo.models.simvp import IncepUNet, SimVP
from microevo.models.step_net import StepNet
from microevo.models.tau import TAU, TAUNet
from microevo.models.unet import UNet, UNetNet

__all__ = [
    "E3DLSTM",
    "FCN",
    "FNO",
    "TAU",
    "BlockwiseForecaster",
    "BlockwiseNet",
    "Conditioned",
    "ConvGRU",
    "ConvGRUNet",
    "ConvLSTM",
    "ConvLSTMNet",
    "E3DLSTMNet",
    "Ensemble",
    "FNONet",
    "Forecaster",
    "IncepUNet",
    "LocalNet",
    "MinimalCNN",
    "MinimalCNNNet",
    "NetworkForecaster",
    "Persistence",
    "PredRNN",
    "PredRNNNet",
    "PredRNNpp",
    "PredRNNppNet",
    "RecurrentForecaster",
    "RecurrentNet",
    "SimVP",
    "SimVPNet",
    "StepNet",
    "TAUNet",
    "UNet",
    "UNetNet",
    "WindowTransform",
    "load_model",
    "rollout",
]
