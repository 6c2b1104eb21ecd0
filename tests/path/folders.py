"""What lies in a path's folder, and a changed manifest."""

import json


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def edit(folder, change):
    file = folder / "path.json"
    data = json.loads(file.read_text())
    data.pop("sha256", None)  # as an earlier version wrote it: nothing tells the change
    change(data)
    file.write_text(json.dumps(data))


def damage_in_place(file):
    """Change seven of the last bytes of a file that may be mapped."""
    with file.open("r+b") as stream:
        stream.seek(-9, 2)
        found = stream.read(7)
        stream.seek(-9, 2)
        stream.write(bytes(byte ^ 0x15 for byte in found))
