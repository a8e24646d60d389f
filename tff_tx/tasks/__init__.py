"""Tasks: what is learned from whose data, checked to fit together."""

from tff_tx.tasks.create import create_task, find_facts
from tff_tx.tasks.features import FeatureCache, take_features
from tff_tx.tasks.federated_task import CLIENT, FederatedTask, client_arguments
from tff_tx.tasks.kind import Facts, TaskKind, TextTask, task_kind
from tff_tx.tasks.model_spec import ModelSpec
from tff_tx.tasks.preprocessing import Preprocessing
from tff_tx.tasks.recipe import LabelledRecipe, Recipe, RecordingRecipe, TextRecipe
