"""The release these patches are written for, by the SHA-256 of the files they touch."""

COMMIT = "686c231"

KNOWN_TREE = {
    "infer.py": "8ff61063682a0fae722dd41c3647ea9e2be9e4cf0108d326b0bfcb6756888061",
    "prepare.py": "c80c32468ffd3129cef7cb54098745df81054b33a7f46ea64db0b8af26a3863d",
    "train_swiftbrush.py": "f190a866c749471167654881aaaa767a046c54a62958e1b79ba676bc2981cac8",
}
