"""The front end: from the text of a spec to elaborated networks and resolved recipes, or all of its mistakes."""

from dlc.compiler.frontend.cautions import cautions
from dlc.compiler.frontend.check import Checked, check
from dlc.compiler.frontend.models import ModelDefinition
from dlc.compiler.frontend.vocabulary import Vocabulary

__all__ = ["Checked", "ModelDefinition", "Vocabulary", "cautions", "check"]
