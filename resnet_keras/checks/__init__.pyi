from .extras import MissingExtra as MissingExtra
from .extras import required as required
from .fields import check_counts as check_counts
from .fields import check_fields as check_fields
from .fields import nearest as nearest
from .tensorflow_errors import reason_of as reason_of
