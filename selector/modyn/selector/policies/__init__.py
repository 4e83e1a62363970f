"""Selection policies, one file each; importing this package registers them."""

from modyn.selector.policies import coreset as coreset
from modyn.selector.policies import freshness as freshness
from modyn.selector.policies import new_data as new_data
from modyn.selector.policies import replay as replay
from modyn.selector.policies import sliding_window as sliding_window
from modyn.selector.policies import weighted as weighted
