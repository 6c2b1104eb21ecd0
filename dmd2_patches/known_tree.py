"""The release these patches are written for, by the SHA-256 of the files they touch."""

COMMIT = "8d8fa55"

KNOWN_TREE = {
    "main/edm/train_edm.py": "09b14a7c2c76f94312606bf79501e44ad49379b291a6cfc28f28008da6c12dda",
    "main/sd_guidance.py": "5e5ec5cb2978f40309d6a89d7e52255d508a7707345291284c2d4969918851fd",
    "main/sd_unified_model.py": "caaf04746dbc0f79b6ca9de9dc37cb5fcae99d0311d2ee2e17eeb5dbea8a8e36",
    "main/train_sd.py": "55a8fca2e4fbf2f36c0c3a205f6fa18e92bfa7be06c8249561ce7780a4c68f7f",
    "main/utils.py": "ccac4f287123a93b7d0246b95b0c21da2d031bd7bd06159b0d4422f7ffb128e8",
}
