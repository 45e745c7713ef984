"""Feature files and their Frechet distances by SciPy: python make.py > expected.txt, beside features_{a,b}.f32.

The third number is that of pytorch-fid's own function (pip install pytorch-fid torch torchvision) for the first two files.

pytorch-fid's formula: ||mean difference||^2 + trace(cov_a + cov_b - 2 sqrtm(cov_a cov_b)), covariances with n - 1.
"""
import numpy as np
from scipy import linalg

generator = np.random.default_rng(5)
rows, size = 400, 24
mix = generator.normal(size=(size, size)) / np.sqrt(size)
a = np.maximum(generator.normal(size=(rows, size)) @ mix + 0.4, 0).astype("<f4")
b = np.maximum(1.3 * generator.normal(size=(rows + 50, size)) @ mix.T + 0.1, 0).astype("<f4")
a.tofile("features_a.f32"), b.tofile("features_b.f32")


def distance(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    means, covariances = [x.mean(0) for x in (a, b)], [np.cov(x, rowvar=False) for x in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    difference = means[0] - means[1]
    return difference @ difference + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root).real


print(repr(float(distance(a, b))))
print(repr(float(distance(a[:100], a[100:]))))


from pytorch_fid.fid_score import calculate_frechet_distance  # noqa: E402

moments = [(x.astype(np.float64).mean(0), np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b)]
print(repr(float(calculate_frechet_distance(*moments[0], *moments[1]))))
