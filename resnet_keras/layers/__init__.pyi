from .batch_norm import BatchNormalization as BatchNormalization
from .batch_norm import fuse as fuse
from .fake_quant import FakeQuant as FakeQuant
from .grouped_conv import Conv2D as Conv2D
from .traversal import flat_layers as flat_layers
from .traversal import parameter_count as parameter_count
