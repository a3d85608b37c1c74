from .imported import ImportedWeights as ImportedWeights
from .loading import LoadReport as LoadReport
from .loading import load_weights as load_weights
from .pretrained_files import list_pretrained as list_pretrained
from .pretrained_files import pretrained_facts as pretrained_facts
from .recognition import recognize_architecture as recognize_architecture
from .sources import open_weights as open_weights
from .weights_file import TrainedWeights as TrainedWeights
