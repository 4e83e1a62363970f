"""Presampling strategies, one file each; importing this package registers them."""

from modyn.selector.presampling import everything as everything
from modyn.selector.presampling import label_balanced as label_balanced
from modyn.selector.presampling import no_replacement as no_replacement
from modyn.selector.presampling import trigger_balanced as trigger_balanced
from modyn.selector.presampling import uniform as uniform
