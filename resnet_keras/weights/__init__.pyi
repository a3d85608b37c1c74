from .imported import ImportedWeights as ImportedWeights
from .loading import LoadReport as LoadReport
from .loading import load_weights as load_weights
from .recognition import recognize_architecture as recognize_architecture
from .sources import open_weights as open_weights
