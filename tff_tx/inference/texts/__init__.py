"""Generated texts and extracted answers, and their scores."""

from tff_tx.inference.texts.answering import Answer, Answerer
from tff_tx.inference.texts.generation import Generator
from tff_tx.inference.texts.rouge import rouge
from tff_tx.inference.texts.scoring import score_answers, score_targets
from tff_tx.inference.texts.squad import exact_match, normalized, word_f1
