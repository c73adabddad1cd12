"""Three cells learn the same pages, and an n-gram model counts them."""

import matplotlib.pyplot as plt
from _prose import TEXT

from fastrnn.examples.ngram import NGram
from fastrnn.models import TextGenerator

figure, axes = plt.subplots(figsize=(5.5, 2.8))
for cell, name in ("rnn", "vanilla"), ("gru", "GRU"), ("lstm", "LSTM"):
    model = TextGenerator(cell=cell, hidden_size=96, epochs=8, batch_size=8, learning_rate=0.02, seed=0)
    model.fit(TEXT)
    bits = [record["validation_bits_per_character"] for record in model.history_]
    axes.plot(range(1, len(bits) + 1), bits, marker=".", label=name)

start = len(TEXT) * 9 // 10  # where the models' validation text begins
counted = NGram(TEXT[:start], vocabulary=TEXT).bits_per_character(TEXT[start:])
axes.axhline(counted, color="0.4", linestyle=":", label="5-gram")
axes.set(xlabel="epoch", ylabel="bits per character, validation")
axes.legend()
plt.show()
