"""The cores and the memory that a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eurosat.errors import EuroSATError
from eurosat.operating_system import available_cores, limit_threads, memory_gib, socket_address

UNIFIED = "31 23 0:28 {top} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate"
FIRST = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
HYBRID = "41 31 0:38 {top} /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
MEMORY = "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
NAMELESS = "52 31 0:40 / /mnt rw -  tmpfs  rw"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def system(root: Path, mounts: list[str], groups: list[str], files: dict[str, str]) -> Path:
    """A system's root folder, with what the kernel says about control groups."""
    own = root / "proc" / "self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_bytes(os.fsencode("".join(f"{line}\n" for line in mounts)))
    (own / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("900000 100000", 8),
        ("5000 100000", 1),
    ],
)
def test_a_quota_limits_the_cores(quota: str, cores: int, tmp_path: Path) -> None:
    root = system(tmp_path, [UNIFIED.format(top="/")], ["0::/"], {"cpu.max": quota})
    assert available_cores(root) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("300000", 3)])
def test_the_first_version_of_control_groups_limits_them_too(
    quota: str, cores: int, tmp_path: Path
) -> None:
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": quota,
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
    }
    mounts = [NAMELESS, MEMORY.format(top="/"), FIRST.format(top="/"), HYBRID.format(top="/")]
    root = system(tmp_path, mounts, ["8:memory:/", "1:cpu,cpuacct:/", "0::/"], files)
    assert available_cores(root) == cores


@pytest.mark.parametrize(
    ("mount", "group", "folder"),
    [
        (UNIFIED.format(top="/"), "0::/system.slice/eurosat.service", "system.slice/"),
        (UNIFIED.format(top="/"), "0::/a/b", "a/b/"),
        (UNIFIED.format(top="/docker/1"), "0::/docker/1", ""),  # without a name space of groups
        (UNIFIED.format(top="/docker/1"), "0::/docker/1/a", "a/"),
        (UNIFIED.format(top="/"), "0::/../..", ""),  # the group lies outside of the container
        (FIRST.format(top="/"), "1:cpu,cpuacct:/a/b", "cpu,cpuacct/a/"),
        (FIRST.format(top="/docker/1"), "1:cpu,cpuacct:/docker/1", "cpu,cpuacct/"),
    ],
)
def test_the_own_group_and_the_groups_around_it_count(
    mount: str, group: str, folder: str, tmp_path: Path
) -> None:
    files = {
        f"{folder}cpu.max": "250000 100000",
        f"{folder}cpu.cfs_quota_us": "250000",
        f"{folder}cpu.cfs_period_us": "100000",
    }
    assert available_cores(system(tmp_path, [mount], [group], files)) == 3


def test_the_smallest_quota_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "a/cpu.max": "500000 100000",
        "a/b/cpu.max": "200000 100000",
        "a/b/c/cpu.max": "max 100000",
        "other/cpu.max": "100000 100000",
    }
    root = system(tmp_path, [UNIFIED.format(top="/")], ["0::/a/b/c"], files)
    assert available_cores(root) == 2


@pytest.mark.parametrize(
    "mount",
    [
        "",
        "x",
        "60 23 0:27 / /mnt/\udcff rw - ext4 /dev/x rw",
        "60 23 0:27 / /mnt/\u2028 rw - ext4 /dev/x rw",
        "60 23 0:26 /other /mnt/other rw - cgroup2 cgroup2 rw",
    ],
    ids=["empty", "short", "not UTF-8", "line separator", "another group"],
)
def test_what_is_not_the_mount_of_the_own_group_changes_nothing(mount: str, tmp_path: Path) -> None:
    other = tmp_path / "mnt/other/cpu.max"
    other.parent.mkdir(parents=True)
    other.write_text("100000 100000\n")
    root = system(
        tmp_path, [mount, UNIFIED.format(top="/")], ["0::/a"], {"a/cpu.max": "200000 100000"}
    )
    assert available_cores(root) == 2


def test_the_names_of_groups_may_have_spaces(tmp_path: Path) -> None:
    files = {"x/cpu.max": "200000 100000"}
    root = system(tmp_path, [UNIFIED.format(top="/my\\040group")], ["0::/my group/x"], files)
    assert available_cores(root) == 2


@pytest.mark.parametrize("quota", ["", "200000", "1 2 3", "100000 0", "a b"])
def test_a_quota_that_cannot_be_read_limits_nothing(quota: str, tmp_path: Path) -> None:
    root = system(tmp_path, [UNIFIED.format(top="/")], ["0::/"], {"cpu.max": quota})
    assert available_cores(root) == 8


def test_without_a_quota_all_allowed_cores_count(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 8


def test_a_system_without_sets_of_cores_and_sysconf_has_all_cores_and_unknown_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert available_cores(tmp_path) == 3
    assert memory_gib() is None


@pytest.mark.parametrize(
    ("quota", "given", "threads"), [(2, None, "2"), (2, "5", "5"), (8, None, None)]
)
def test_libraries_that_know_no_quota_are_told(
    quota: int, given: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"OMP_NUM_THREADS": given} if given else {}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("eurosat.operating_system.available_cores", lambda: quota)
    limit_threads()
    assert environment.get("OMP_NUM_THREADS") == threads


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no sets of cores")
def test_a_model_has_one_thread_on_one_core() -> None:
    """As under ``taskset``; on a machine of several cores the model would start threads."""
    (model,) = (Path(__file__).parent / "fixtures").rglob("*.onnx")
    code = (
        "import os, pathlib, sys\n"
        "from eurosat.inference.runtime import open_model\n"
        "import numpy, onnxruntime\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "model = open_model(pathlib.Path(sys.argv[1]))\n"
        "model.run(numpy.zeros((1, *model.card.shape), model.card.dtype))\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "0\n"


def test_a_path_that_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    longest = 107 if sys.platform == "linux" else 103
    fitting = Path("/" + "x" * (longest - 1))
    assert socket_address(fitting) == f"ipc://{fitting}"
    for path in (Path(f"{fitting}x"), Path("/" + "é" * (longest // 2 + 1))):
        with pytest.raises(EuroSATError, match=r"longer than .* TMPDIR, such as /tmp"):
            socket_address(path)
