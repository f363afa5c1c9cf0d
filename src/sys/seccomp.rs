//! The system calls that are denied to the daemon.
//!
//! A list of those that it surely never makes, not of those that it makes: which ones these are
//! differs between C libraries and their versions, and a library that is denied a new one ends the
//! daemon on the day of an upgrade. A call on the list fails with `EPERM`.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use nix::libc::{self, c_int, c_long};
use seccompiler::SeccompCmpOp::{self, MaskedEq, Ne};
#[cfg(target_arch = "x86_64")]
use seccompiler::sock_filter;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that are denied whatever their arguments are.
const DENIED: &[c_long] = &[
    // Other programs, other processes, and what is in their memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    // Another user: that was before.
    libc::SYS_capset,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    // Another view of the file system.
    libc::SYS_chroot,
    libc::SYS_fanotify_init,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // The system itself.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // Large parts of the kernel in which faults were found, and that the daemon does without.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_io_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_nfsservctl,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_remap_file_pages,
    libc::SYS_request_key,
    libc::SYS_semget,
    libc::SYS_set_mempolicy,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_userfaultfd,
    libc::SYS_vmsplice,
];

/// Calls that only this processor has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_vfork,
];

/// Calls that only this processor has.
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[c_long] = &[];

/// The first number of the calls with pointers of 32 bits, which a kernel for this processor can
/// have besides and which a list of the others says nothing of.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// One comparison: the argument, how, and with what.
type Condition = (u8, SeccompCmpOp, c_int);

/// Denies the calls to this thread and to those that it starts. `tcp` leaves sockets for TCP, and
/// `names` those for UDP besides.
pub(super) fn install(tcp: bool, names: bool) -> Result<(), Error> {
    // Both are made before the first is in force.
    let denied = denied(tcp, names)?;
    // The C library then makes a thread with clone(2), whose flags a filter can look at.
    let unknown = program(Rules::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?;
    apply_filter(&unknown)?;
    apply_filter(&denied)
}

fn denied(tcp: bool, names: bool) -> Result<BpfProgram, Error> {
    let always = DENIED.iter().chain(DENIED_HERE);
    let mut rules: Rules = always.map(|call| (*call, Vec::new())).collect();
    // What is made is a process, and no thread.
    let (thread, execute) = (libc::CLONE_THREAD, libc::PROT_EXEC);
    rules.insert(
        libc::SYS_clone,
        vec![rule(&[(0, MaskedEq(mask(thread)), 0)])?],
    );
    // Memory that can be written to and executed. A library can still be loaded, as for the names
    // of users.
    let both = libc::PROT_WRITE | execute;
    rules.insert(
        libc::SYS_mmap,
        vec![rule(&[(2, MaskedEq(mask(both)), both)])?],
    );
    for call in [libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        let executable = rule(&[(2, MaskedEq(mask(execute)), execute)])?;
        rules.insert(call, vec![executable]);
    }
    rules.insert(libc::SYS_socket, sockets(tcp, names)?);
    let program = program(rules, libc::EPERM)?;
    #[cfg(target_arch = "x86_64")]
    let program = [&without_x32()[..], &program].concat();
    Ok(program)
}

/// Denies sockets that are neither Unix nor, with `tcp`, for TCP, nor, with `names` too, for UDP.
fn sockets(tcp: bool, names: bool) -> Result<Vec<SeccompRule>, Error> {
    let not_unix = || (0, Ne, libc::AF_UNIX);
    if !tcp {
        return Ok(vec![rule(&[not_unix()])?]);
    }
    let mut rules = vec![
        rule(&[not_unix(), (0, Ne, libc::AF_INET), (0, Ne, libc::AF_INET6)])?,
        rule(&[
            not_unix(),
            (2, Ne, 0),
            (2, Ne, libc::IPPROTO_TCP),
            (2, Ne, if names { libc::IPPROTO_UDP } else { 0 }),
        ])?,
    ];
    let datagrams = (!names).then_some(libc::SOCK_DGRAM);
    for kind in [libc::SOCK_RAW, libc::SOCK_SEQPACKET]
        .into_iter()
        .chain(datagrams)
    {
        // Its flags stand above the number of the type.
        rules.push(rule(&[not_unix(), (1, MaskedEq(0xf), kind)])?);
    }
    Ok(rules)
}

/// Denies every call of that other kind, before the list of this one is looked at.
#[cfg(target_arch = "x86_64")]
fn without_x32() -> [sock_filter; 3] {
    let statement = |code: u32, jf, k| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: 0,
        jf,
        k,
    };
    let deny = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        statement(libc::BPF_RET | libc::BPF_K, 0, deny),
    ]
}

fn program(rules: Rules, errno: c_int) -> Result<BpfProgram, Error> {
    let denied = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// A call matches if all of the conditions hold.
fn rule(conditions: &[Condition]) -> Result<SeccompRule, Error> {
    let conditions = conditions.iter().map(|(argument, how, value)| {
        let value = mask(*value);
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, how.clone(), value)
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

fn mask(bits: c_int) -> u64 {
    u64::from(bits.unsigned_abs())
}
