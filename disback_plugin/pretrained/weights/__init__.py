"""A network's weights alone, as DMD2 and SwiftBrush save students: `weights:FILE base=SPEC`."""
