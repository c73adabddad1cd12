"""What temperature does to a distribution: that of letters in a page of English, as if these were logits."""

from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from _prose import TEXT

counts = Counter(TEXT[i + 1] for i in range(len(TEXT) - 1) if TEXT[i] == "t" and TEXT[i + 1].isalpha())
letters, numbers = zip(*counts.most_common(12), strict=True)
logits = np.log(numbers)

figure, axes = plt.subplots(figsize=(5.5, 2.4))
for place, temperature in enumerate((0.5, 1, 2)):
    p = np.exp(logits / temperature)
    left = np.arange(len(letters)) + (place - 1) * 0.27
    axes.bar(left, p / p.sum(), 0.27, label=f"temperature {temperature}")
axes.set_xticks(range(len(letters)), letters)
axes.set(xlabel="the letter after t", ylabel="probability")
axes.legend()
plt.show()
