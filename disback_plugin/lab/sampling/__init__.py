"""Images of a trained student, each drawn from its own seed, and what says what they are."""

from disback_plugin.lab.sampling.packing import find_samples
from disback_plugin.lab.sampling.plan import Plan, Samples, Seeds, parse_labels, parse_seeds
from disback_plugin.lab.sampling.run import sample
from disback_plugin.lab.sampling.sampler import Sampler, make_sampler
from disback_plugin.lab.sampling.student import Asked, Student, open_student
