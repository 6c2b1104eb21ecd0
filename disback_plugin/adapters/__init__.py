"""Adapters that come with the package; importing this registers them."""

from disback_plugin.adapters.diff_instruct import DiffInstructAdapter
from disback_plugin.adapters.dmd2 import DMD2EDMAdapter, DMD2SDAdapter
from disback_plugin.adapters.fastgen import FastGenAdapter
from disback_plugin.adapters.generic import GenericAdapter
from disback_plugin.adapters.modelopt import ModelOptAdapter
from disback_plugin.adapters.swiftbrush import SwiftBrushAdapter
