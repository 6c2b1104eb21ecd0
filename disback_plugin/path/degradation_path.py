"""`DegradationPath`: the nodes between a teacher and its initial student, on disk (Sec. 4.2)."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from disback_plugin import files
from disback_plugin.distributed import same_on_every
from disback_plugin.errors import PathError
from disback_plugin.path import inspection
from disback_plugin.path.behind import CheckStop
from disback_plugin.path.codecs import get_codec
from disback_plugin.path.encoding import PrecisionOf, refuse_untrained, write_node
from disback_plugin.path.manifest import (
    FILE_NAME,
    FORMAT_VERSION,
    TEACHER_FILE,
    Manifest,
    NodeEntry,
    TensorRow,
    read_manifest,
    write_manifest,
)
from disback_plugin.path.node_file import write_whole, writing
from disback_plugin.path.reference import TeacherReference, check_tensors
from disback_plugin.path.stored_node import StoredNode
from disback_plugin.path.writer_lock import WriterLock, wait_for_writer
from disback_plugin.tensors import describe_difference

Found = TypeVar("Found")


class DegradationPath:
    """A folder with `path.json` and one safetensors file a node; node 0 is the teacher.

    One process writes, any number may read meanwhile: every file is replaced atomically and the
    manifest comes last, so a kill at any moment leaves a readable path with every completed node.
    Only safetensors and JSON are read. Errors are PathError and name the file and the reason.
    """

    def __init__(self, folder: Path, manifest: Manifest, teacher: TeacherReference | None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._teacher = teacher

    # -- making and opening ---------------------------------------------------------------------
    @classmethod
    def create(
        cls,
        folder: str | Path,
        teacher: TeacherReference | Mapping[str, Tensor],
        *,
        codec: str = "full",
        method: str = "generic",
        recording: Mapping[str, Any] | None = None,
        keep_teacher: bool = False,
    ) -> "DegradationPath":
        """Start an empty path for `teacher`; a folder whose path has a node is refused."""
        folder = Path(folder)
        if inspection.holds_path(folder):
            raise PathError(f"{folder} already holds a path: open it, or choose another folder")
        if not isinstance(teacher, TeacherReference):
            teacher = TeacherReference.of(teacher)
        folder.mkdir(parents=True, exist_ok=True)
        inspection.clear_empty(folder)
        kept = write_whole(folder / TEACHER_FILE, teacher.tensors) if keep_teacher else None
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            method=method,
            codec=get_codec(codec).name,
            complete=False,
            recording=dict(recording or {}),
            tensors={name: TensorRow(**row) for name, row in teacher.table().items()},
            teacher=teacher.entry(kept),
            nodes=(),
        )
        if (folder / FILE_NAME).exists():
            raise PathError(f"another run has begun a path in {folder}: give another folder")
        write_manifest(folder, manifest)
        return cls(folder, manifest, teacher)

    @classmethod
    def open(
        cls, folder: str | Path, teacher: TeacherReference | Mapping[str, Tensor] | None = None
    ) -> "DegradationPath":
        """Open a path; with `teacher`, check that the path is that teacher's.

        Without it (and without a kept copy), only nodes stored whole can be read.
        """
        folder = Path(folder)
        wait_for_writer(folder)
        manifest = read_manifest(folder)
        if teacher is not None and not isinstance(teacher, TeacherReference):
            teacher = TeacherReference.of(teacher)
        path = cls(folder, manifest, teacher)
        path.check_teacher()
        path.share_teacher()
        return path

    def check_teacher(self) -> None:
        """Raise PathError where the teacher's tensors are known, and another network's."""
        recorded, given = self.manifest.teacher, self._teacher
        if given is not None and given.fingerprint != recorded.fingerprint:
            raise PathError(
                f"{self.folder} was recorded from another teacher: "
                f"{describe_difference(recorded.hashes, given.hashes)}. Use its own "
                "teacher, or record a new path (if the host loaded a checkpoint before DisBack was "
                "attached, its teacher may hold a node: attach first)"
            )

    def share_teacher(self) -> None:
        """Hold the teacher as the folder's file, mapped, not as a copy of this process's own.

        Where the folder keeps none, or a damaged one, the copy stays: 4 bytes a parameter a rank.
        """
        if self._teacher is not None:
            inspection.share_teacher(self.folder, self.manifest, self._teacher)

    def refresh(self) -> None:
        """Read the manifest again, to see what a writer has added meanwhile."""
        self.manifest = read_manifest(self.folder)

    # -- reading --------------------------------------------------------------------------------
    @property
    def nodes(self) -> tuple[NodeEntry, ...]:
        """The recorded nodes 1..N in order of recording."""
        return self.manifest.nodes

    @property
    def complete(self) -> bool:
        """Whether recording ran to its end."""
        return self.manifest.complete

    @property
    def student(self) -> int | None:
        """The checksum of the student it was recorded for; None where it is not known."""
        return self.manifest.recording.get("student")

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[NodeEntry]:
        return iter(self.nodes)

    def read(self, index: int) -> dict[str, Tensor]:
        """Node `index`'s tensors (0: the teacher's), checked against size, SHA-256 and table."""
        return dict(self.open_node(index))

    def open_node(self, index: int) -> Mapping[str, Tensor]:
        """As `read`, but verified and decoded only where it is looked at (see `StoredNode`)."""
        if index == 0:
            return self._teacher_tensors("node 0")
        if not 1 <= index <= len(self):
            raise PathError(f"{self.folder} has nodes 0..{len(self)}; there is no node {index}")
        file = inspection.open_node(self.folder, self.manifest, self.nodes[index - 1])
        teacher = {} if self.manifest.codec == "full" else self._teacher_tensors(f"node {index}")
        codec = inspection.codec_of(self.folder, self.manifest)
        return StoredNode(file, self.manifest.shapes(), codec, teacher)

    def read_together(self, index: int, read: Callable[[int], Found]) -> Found:
        """What `read` gives for a node, on every rank at once: all read the same, or all raise."""
        found: list[Found] = []

        def read_here() -> tuple[int, str]:
            found.append(read(index))
            digests = (self.manifest.teacher.fingerprint, *(node.sha256 for node in self))
            return index, digests[index]

        same_on_every(read_here, f"reading node {index} of {self.folder}")
        return found[0]

    def load_into(self, module: nn.Module, index: int) -> None:
        """Load node `index` into `module`, strictly; values are cast to the module's dtypes."""
        tensors, own = self.read(index), module.state_dict()
        check_tensors(own, tensors, f"node {index} of {self.folder} for this module")
        module.load_state_dict(tensors)

    def check_files(self) -> None:
        """Raise PathError unless every node's file is there in its size; reads no tensor."""
        for problem in inspection.wrong_sizes(self.folder, self.manifest).values():
            raise PathError(problem)

    def verify(self) -> list[str]:
        """Every problem found, as sentences; an empty list means that the path is whole."""
        return inspection.find_problems(self.folder, self.manifest)

    # -- writing --------------------------------------------------------------------------------
    def append(
        self,
        tensors: Mapping[str, Tensor],
        step: int,
        precision_of: PrecisionOf | None = None,
        check_stop: CheckStop = lambda: None,
    ) -> NodeEntry:
        """Keep `tensors` as the next node, after `step` recording steps.

        Refuses names or shapes other than the teacher's, a step that does not rise, and a node
        equal to the one before it or to the teacher (then the fake score is not being trained).
        `precision_of` measures it where weights are compared otherwise (LoRA); what `check_stop`
        raises, between two tensors, ends it.
        """
        if self.complete:
            raise PathError(f"{self.folder} is complete: its recording has ended")
        self.check_own()
        index, teacher = len(self) + 1, self._teacher_tensors("a new node")
        check_tensors(teacher, tensors, f"node {index} of {self.folder}")
        if self.nodes and step <= self.nodes[-1].step:
            last = self.nodes[-1].step
            raise PathError(
                f"node {index} at step {step} does not come after node {index - 1}, {last}"
            )
        name = f"node_{index:04d}.safetensors"
        with writing(self.folder / name, tensors) as writer:
            codec = inspection.codec_of(self.folder, self.manifest)
            precision = write_node(writer, tensors, teacher, codec, precision_of, check_stop)
            seal = writer.finish()
            refuse_untrained(name, precision, seal, self.nodes)
        found = {**seal._asdict(), **vars(precision)}
        entry = NodeEntry(index=index, step=step, file=name, **found)
        self._replace(nodes=(*self.nodes, entry))
        return entry

    def finish(self) -> None:
        """Mark the recording as complete; a path without a node is refused."""
        if not self.nodes:
            raise PathError(f"{self.folder} has no node: nothing to backtrack")
        self._replace(complete=True)

    def truncate(self, num_nodes: int) -> None:
        """Drop the nodes after the first `num_nodes`; the path is then incomplete again."""
        if not 0 <= num_nodes <= len(self):
            raise PathError(f"cannot keep {num_nodes} of {len(self)} nodes of {self.folder}")
        dropped = self.nodes[num_nodes:]
        if dropped or self.complete:
            self._replace(nodes=self.nodes[:num_nodes], complete=False)
        for entry in dropped:
            files.remove(self.folder / entry.file)

    def repair(self) -> list[str]:
        """Drop what a crash can leave: temp files, unlisted nodes, a torn last node or teacher.

        Returns what was dropped. Damage to any other node is an error: the path must be recorded
        again from there (`truncate`). Refused while another process writes the path.
        """
        lock = WriterLock(self.folder, take_over=False)
        try:
            self.refresh()
            dropped = self.remove_strays()
            torn = inspection.torn_last_node(self.folder, self.manifest)
            if torn is not None:
                self.truncate(len(self) - 1)
                dropped.append(torn)
            if problem := inspection.teacher_problem(self.folder, self.manifest):
                files.remove(self.folder / TEACHER_FILE)
                kept = {"file": None, "sha256": None, "header": None}
                self._replace(teacher=self.manifest.teacher.model_copy(update=kept))
                dropped.append(problem)
        finally:
            lock.release()
        return dropped

    def remove_strays(self) -> list[str]:
        """Delete temp files and unlisted nodes of a killed writer; returns what was dropped."""
        return inspection.remove_strays(self.folder, self.manifest)

    # -- helpers --------------------------------------------------------------------------------
    def check_own(self) -> None:
        """Raise PathError where somebody else has written since: nothing of it is replaced."""
        if read_manifest(self.folder) != self.manifest:
            raise PathError(
                f"another run or command has written into {self.folder} meanwhile: this recording "
                "is over; record into another folder"
            )

    def _replace(self, **changes: Any) -> None:
        self.check_own()
        changes["format_version"] = FORMAT_VERSION
        manifest = self.manifest.model_copy(update=changes)
        write_manifest(self.folder, manifest)
        self.manifest = manifest

    def _teacher_tensors(self, needed_for: str) -> Mapping[str, Tensor]:
        if self._teacher is None:
            kept = inspection.open_teacher(self.folder, self.manifest)
            if kept is None:
                raise PathError(
                    f"{needed_for} of {self.folder} needs the teacher's tensors: open the path "
                    "with teacher=module.state_dict()"
                )
            self._teacher = TeacherReference(kept, self.manifest.teacher.hashes)
        return self._teacher.tensors
