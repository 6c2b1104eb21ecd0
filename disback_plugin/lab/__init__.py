"""Everything that runs experiments: data, problems, trainer, comparison, results, report."""
