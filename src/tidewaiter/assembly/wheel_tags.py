"""What the wheels of an image must run on, as tags and markers say it."""

from packaging.markers import Environment
from packaging.tags import Tag, compatible_tags, cpython_tags

from tidewaiter.assembly.wheel_target import Target


def target_tags(target: Target) -> list[Tag]:
    """Wheel tags that run on `target`, best first."""
    major, minor = (int(part) for part in target.python.split("."))
    machine = target.machine
    legacy = {17: f"manylinux2014_{machine}"}
    if machine == "x86_64":
        legacy |= {12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}
    # The oldest glibc of manylinux on x86-64 is 2.5; aarch64 came with 2.17.
    oldest = min(legacy)
    platforms = []
    for number in range(target.glibc[1], oldest - 1, -1):
        platforms.append(f"manylinux_{target.glibc[0]}_{number}_{machine}")
        if number in legacy:
            platforms.append(legacy[number])
    platforms.append(f"linux_{machine}")
    interpreter = f"cp{major}{minor}"
    return [
        *cpython_tags((major, minor), [interpreter], platforms),
        *compatible_tags((major, minor), interpreter, platforms),
    ]


def environment(target: Target) -> Environment:
    """What markers are evaluated against (PEP 508)."""
    return Environment(
        implementation_name="cpython",
        implementation_version=f"{target.python}.0",
        os_name="posix",
        platform_machine=target.machine,
        platform_python_implementation="CPython",
        platform_release="",
        platform_system="Linux",
        platform_version="",
        python_full_version=f"{target.python}.0",
        python_version=target.python,
        sys_platform="linux",
    )
