"""SwiftBrush (VinAIResearch/SwiftBrush): what its patched script calls."""

from disback_plugin.adapters.swiftbrush.adapter import SwiftBrushAdapter
