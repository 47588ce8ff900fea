"""The child: locks itself in, then runs the program. Started by run.py as a script of its own.

Nothing of llmctl is imported here. The order matters: Landlock and capabilities first, limits
next, the system call filter last, because it forbids what the others need.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
OUT_OF_MEMORY = 86
NOT_ISOLATED = 87
MB = 1 << 20

# --- Landlock: which files can be opened (linux/landlock.h) ---------------------------------------
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version of the interface -> number of file rights that it knows; later ones add none."""
READ = EXECUTE | READ_FILE | READ_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | (1 << 14) | (1 << 15)
"""Rights that a single file can have; the others are a folder's."""


def landlock_version() -> int:
    """0 when the kernel has none or it is switched off."""
    return max(0, int(LIBC.syscall(CREATE_RULESET, None, 0, 1)))


def lock_files(readable: list[str], writable: list[str]) -> None:
    """Let only these files, and what is under these folders, be opened."""
    version = landlock_version()
    if not version:
        raise OSError("Landlock is not available")
    every = (1 << RIGHTS[min(version, max(RIGHTS))]) - 1
    # 0b11: TCP's bind and connect; abstract sockets and signals that leave the sandbox
    attributes = struct.pack("QQQ", every, 0b11, 0b11)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = LIBC.syscall(CREATE_RULESET, attributes, size, 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for rights, paths in ((READ, readable), (every, writable)):
        for path in paths:
            try:
                target = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue  # what is not there needs no rule
            allowed = rights & every & (-1 if os.path.isdir(path) else ON_FILES)
            rule = struct.pack("=Qi", allowed, target)
            if LIBC.syscall(ADD_RULE, rules, 1, rule, 0):
                raise OSError(ctypes.get_errno(), f"landlock_add_rule {path}")
            os.close(target)
    if LIBC.syscall(RESTRICT_SELF, rules, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(rules)


# --- seccomp: which system calls can be made (linux/seccomp.h, linux/filter.h) --------------------
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine -> (AUDIT_ARCH, column of the tables below)."""
FORBIDDEN = {
    # network, and what could open one by another door
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # processes: threads stay possible
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    "unshare": (272, 97), "setns": (308, 268),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "sched_setaffinity": (203, 122),
    # files beside what Landlock covers: rights, owners, attributes, devices, lengths by path
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None),
    "mknod": (133, None), "mknodat": (259, 33), "truncate": (76, 45), "fallocate": (285, 47),
    "inotify_init": (253, None), "inotify_init1": (294, 26),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    # memory that no limit of the process counts, and what others share
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "semctl": (66, 191), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # the system itself
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "personality": (135, 92), "acct": (163, 89),
    "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "iopl": (172, None),
    "ioperm": (173, None), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "quotactl": (179, 60), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266),
}  # fmt: skip
"""System calls that fail with EPERM: name -> (number on x86_64, number on aarch64)."""
SELF = -1
"""Stands for the number of the process."""
ONLY = {
    "kill": ((62, 129), 0, 0xFFFFFFFF, (SELF,)), "tgkill": ((234, 131), 0, 0xFFFFFFFF, (SELF,)),
    "prlimit64": ((302, 261), 0, 0xFFFFFFFF, (0,)),
    # a stream's two ends; a datagram can be sent to any socket of the machine, the system log too
    "socketpair": ((53, 199), 1, 0xF, (1,)),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what Python's own files need
    "ioctl": ((16, 29), 1, 0xFFFFFFFF, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
}  # fmt: skip
"""System calls to be made with these values only: name -> (numbers, argument, bits, values)."""
NEVER = {
    # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY: a file's news as signals to others
    "fcntl": ((72, 25), 1, 0xFFFFFFFF, (8, 10, 15, 1024, 1026)),
    # PR_SET_PDEATHSIG, PR_SET_DUMPABLE: to outlive llmctl, to hide open files from it
    "prctl": ((157, 167), 0, 0xFFFFFFFF, (1, 4)),
}
"""System calls that are made with every other value than these."""
CLONE, CLONE3 = (56, 220), (435, 435)
CLONE_THREAD = 0x00010000
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
LOAD, EQUAL, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data; the low half of a little-endian argument comes first."""


def filter_of(machine: str, pid: int) -> bytes:
    """The program for the kernel: one struct sock_filter (code, if true, if false, value) each."""
    arch, column = ARCHITECTURES[machine]
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, ARCH), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL_PROCESS),  # the x32 interface
    ]  # fmt: skip
    for numbers in FORBIDDEN.values():
        number = numbers[column]
        if number is not None:
            code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | EPERM)]
    # the C library asks clone3 first and takes clone, whose flags can be seen, when it is not there
    code += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | ENOSYS)]
    code += [
        (EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, FIRST_ARGUMENT),
        (ANY_BIT, 0, 1, CLONE_THREAD), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | EPERM),
    ]  # fmt: skip
    for table, listed, others in ((ONLY, ALLOW, ERRNO | EPERM), (NEVER, ERRNO | EPERM, ALLOW)):
        for calls, argument, bits, values in table.values():
            tests = [(EQUAL, 0, 1, pid if value == SELF else value) for value in values]
            body = [(LOAD, 0, 0, FIRST_ARGUMENT + 8 * argument), (AND, 0, 0, bits)]
            body += [each for test in tests for each in (test, (RETURN, 0, 0, listed))]
            body.append((RETURN, 0, 0, others))
            code += [(EQUAL, 0, len(body), calls[column]), *body]
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", op, yes, no, value) for op, yes, no, value in code)


def lock_calls() -> None:
    """Install the filter; it cannot be taken off again."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(f"no system call filter for {machine}")
    program = filter_of(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    if LIBC.prctl(22, 2, pointer, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


def drop_rights() -> None:
    """No capability, and none to be had by executing a file, even when root started us."""
    if LIBC.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    head = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    if LIBC.capset(head, bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def limit(settings: dict[str, int]) -> None:
    """Limits of the kernel; time and output are watched from outside, too."""
    memory, files = settings["memory_mb"] * MB, settings["files_mb"] * MB
    seconds = settings["cpu_seconds"]
    for what, most in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, files), (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def isolated(settings: dict[str, int], readable: list[str], folder: str) -> None:
    """Everything at once; an OSError says what cannot be had."""
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives llmctl
    drop_rights()
    lock_files(readable, [folder, "/dev/null"])
    limit(settings)
    lock_calls()


def main() -> None:
    """Lock in, run, say that the end was reached, and what went wrong if not."""
    folder = os.getcwd()
    with open("settings.json", encoding="utf-8") as file:
        settings = json.load(file)
    os.unlink("settings.json")  # it has the word that says that the end was reached
    with open("main.py", encoding="utf-8") as file:
        source = file.read()
    done = os.fdopen(settings["status"], "w")
    try:
        isolated(settings, settings["readable"], folder)
    except (OSError, KeyError) as error:
        print(error, file=sys.stderr)
        os._exit(NOT_ISOLATED)
    sys.argv = ["main.py"]
    code = 1
    try:
        exec(compile(source, "main.py", "exec"), {"__name__": "__main__"})
        code = 0
        done.write(settings["token"])
        done.flush()
    except MemoryError:
        code = OUT_OF_MEMORY
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that are left are not waited for


if __name__ == "__main__":
    main()
