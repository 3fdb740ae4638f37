"""One loop; losses for tokenizers, bodies, classifiers (and heads)."""
