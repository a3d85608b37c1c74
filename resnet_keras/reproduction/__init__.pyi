from .catalog import EXPERIMENTS as EXPERIMENTS
from .experiment import Experiment as Experiment
from .experiment import Variant as Variant
from .reproducer import reproduce as reproduce
