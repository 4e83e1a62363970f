"""Downsampling strategies, one file each; importing this package registers them."""

from modyn.trainer_server.downsampling import craig as craig
from modyn.trainer_server.downsampling import everything as everything
from modyn.trainer_server.downsampling import fewer_epochs as fewer_epochs
from modyn.trainer_server.downsampling import gradient_norm as gradient_norm
from modyn.trainer_server.downsampling import gradmatch as gradmatch
from modyn.trainer_server.downsampling import infobatch as infobatch
from modyn.trainer_server.downsampling import kcenter as kcenter
from modyn.trainer_server.downsampling import loss as loss
from modyn.trainer_server.downsampling import rho_loss as rho_loss
from modyn.trainer_server.downsampling import rs2 as rs2
from modyn.trainer_server.downsampling import submodular as submodular
from modyn.trainer_server.downsampling import uncertainty as uncertainty
from modyn.trainer_server.downsampling import uniform as uniform
