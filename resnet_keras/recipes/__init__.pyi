from .catalog import RECIPES as RECIPES
from .published_errors import PUBLISHED as PUBLISHED
from .published_errors import Published as Published
from .published_errors import recipe_table as recipe_table
from .recipe import Recipe as Recipe
