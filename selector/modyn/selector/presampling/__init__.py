"""Presampling strategies, one file each; importing this package registers them."""

from modyn.selector.presampling import everything as everything
from modyn.selector.presampling import uniform as uniform
