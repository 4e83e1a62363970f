"""Selection policies, one file each; importing this package registers them."""

from modyn.selector.policies import coreset as coreset
from modyn.selector.policies import new_data as new_data
