// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* What no capability allows to an agent. */

#define NEVER(hook, wanted)                                              \
	({                                                               \
		struct KernelAgent *a = current_agent();                 \
		a ? report_plain(a, FORBIDDEN(hook, wanted), 0) : 0;     \
	})

/*
 * What a mount covers, or uncovers, changes for whoever sees it. An agent's own mounts are made
 * before it runs, in a namespace where nobody else is.
 */
static __always_inline void mounts_change(void)
{
	if (!agent_of(bpf_get_current_task_btf()))
		void_verdicts();
}

SEC("lsm/bpf")
int BPF_PROG(bpf_call, int cmd, union bpf_attr *attr, unsigned int size, bool kernel)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		return outsider_calls_bpf(cmd);
	return report_plain(a, FORBIDDEN(BPF, cmd), 0);
}

SEC("lsm/sb_mount")
int BPF_PROG(sb_mount, const char *device, const struct path *path, const char *type,
	     unsigned long flags, void *data)
{
	struct KernelAgent *a = current_agent();

	if (!a)
		mounts_change();
	return a ? report_path(a, path, FORBIDDEN(SB_MOUNT, flags), 0) :
		   outsider_covers(path, !(flags & MS_IN_PLACE));
}

SEC("lsm/sb_umount")
int BPF_PROG(sb_umount, struct vfsmount *m, int flags)
{
	struct KernelAgent *a = current_agent();

	if (!a) {
		mounts_change();
		return outsider_unmounts(m);
	}
	return report_plain(a, FORBIDDEN(SB_UMOUNT, flags), 0);
}

/* Asked for each new mount, by either call. */
SEC("lsm/sb_kern_mount")
int BPF_PROG(sb_kern_mount, const struct super_block *sb)
{
	return current_agent() ? 0 : outsider_makes(sb);
}

/* A file system of controls that becomes read-only keeps the daemon from them. */
SEC("lsm/sb_remount")
int BPF_PROG(sb_remount, struct super_block *sb, void *options)
{
	struct KernelAgent *a = current_agent();

	if (a)
		return report_plain(a, FORBIDDEN(SB_REMOUNT, 0), 0);
	mounts_change();
	return outsider_remounts(sb);
}

SEC("lsm/move_mount")
int BPF_PROG(move_mount, const struct path *from, const struct path *to)
{
	struct KernelAgent *a = current_agent();

	if (a)
		return report_path(a, to, FORBIDDEN(MOVE_MOUNT, 0), 0);
	mounts_change();
	return outsider_covers(to, true) ?: outsider_covers(from, false);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(sb_pivotroot, const struct path *old, const struct path *new)
{
	return NEVER(PIVOTROOT, 0);
}

SEC("lsm/userns_create")
int BPF_PROG(userns_create, const struct cred *cred)
{
	return NEVER(USERNS_CREATE, 0);
}

SEC("lsm/perf_event_open")
int BPF_PROG(perf_event_open, int type)
{
	return NEVER(PERF_EVENT_OPEN, type);
}

/* Asked with the event made: whom it is about is known here. */
SEC("lsm/perf_event_alloc")
int BPF_PROG(perf_event_alloc, struct perf_event *event)
{
	return current_agent() ? 0 : outsider_measures(event);
}

/* Sessions of agents start with an empty keyring; other keys belong to others. */
SEC("lsm/key_permission")
int BPF_PROG(key_permission, void *key, const struct cred *cred, int need)
{
	return NEVER(KEY_PERMISSION, need);
}

SEC("lsm/key_alloc")
int BPF_PROG(key_alloc, struct key *key, const struct cred *cred, unsigned long flags)
{
	return NEVER(KEY_PERMISSION, 0);
}

/* A kernel thread that works with the ring's credentials, and requests under other ones. */
SEC("lsm/uring_sqpoll")
int BPF_PROG(uring_sqpoll)
{
	return NEVER(URING_SQPOLL, 0);
}

SEC("lsm/uring_override_creds")
int BPF_PROG(uring_override_creds, const struct cred *new)
{
	return NEVER(URING_OVERRIDE_CREDS, 0);
}

SEC("lsm/uring_cmd")
int BPF_PROG(uring_cmd, struct io_uring_cmd *command)
{
	return NEVER(URING_CMD, 0);
}

/* What the kernel has logged is about everybody. */
SEC("lsm/syslog")
int BPF_PROG(read_kernel_log, int type)
{
	return NEVER(SYSLOG, type);
}

/* An agent's call that would have the kernel fetch a module for it, from socket families to line disciplines. */
SEC("lsm/kernel_module_request")
int BPF_PROG(kernel_module_request, char *name)
{
	return NEVER(KERNEL_MODULE, 0);
}

/* Another kernel in place of this one, by either call; an agent's device may want its firmware. */
SEC("lsm/kernel_load_data")
int BPF_PROG(kernel_load_data, int id, bool contents)
{
	struct KernelAgent *a = current_agent();

	if (a)
		return report_plain(a, FORBIDDEN(KERNEL_LOAD, id), 0);
	if (id != bpf_core_enum_value(enum kernel_load_data_id, LOADING_KEXEC_IMAGE) &&
	    id != bpf_core_enum_value(enum kernel_load_data_id, LOADING_KEXEC_INITRAMFS))
		return 0;
	return sealed_to_current() ? refuse_outsider(BROKEN_SEAL(KERNEL_LOAD, id)) : 0;
}

SEC("lsm/kernel_read_file")
int BPF_PROG(kernel_read_file, struct file *f, int id, bool contents)
{
	struct KernelAgent *a;

	if (id == bpf_core_enum_value(enum kernel_read_file_id, READING_FIRMWARE))
		return 0;
	a = current_agent();
	if (a)
		return report_plain(a, FORBIDDEN(KERNEL_LOAD, id), 0);
	if (id != bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_IMAGE) &&
	    id != bpf_core_enum_value(enum kernel_read_file_id, READING_KEXEC_INITRAMFS))
		return 0;
	return sealed_to_current() ? refuse_outsider(BROKEN_SEAL(KERNEL_LOAD, id)) : 0;
}

/*
 * What lockdown is about: kernel memory, probes, tracing, raw devices, unsigned modules. Its level `integrity` leaves
 * reading to root, and a level that does not would keep these programs from loading.
 */
SEC("lsm/locked_down")
int BPF_PROG(locked_down, int what)
{
	struct KernelAgent *a = current_agent();

	if (a)
		return report_plain(a, FORBIDDEN(LOCKDOWN, what), 0);
	return sealed_to_current() ? refuse_outsider(BROKEN_SEAL(LOCKDOWN, what)) : 0;
}

/* A network interface of its own, through a device that was made for somebody. */
SEC("lsm/tun_dev_create")
int BPF_PROG(tun_dev_create)
{
	return NEVER(TUN_DEVICE, 0);
}

SEC("lsm/tun_dev_attach_queue")
int BPF_PROG(tun_dev_attach_queue, void *security)
{
	return NEVER(TUN_DEVICE, 0);
}

SEC("lsm/tun_dev_attach")
int BPF_PROG(tun_dev_attach, struct sock *sk, void *security)
{
	return NEVER(TUN_DEVICE, 0);
}

SEC("lsm/tun_dev_open")
int BPF_PROG(tun_dev_open, void *security)
{
	return NEVER(TUN_DEVICE, 0);
}

/*
 * Modules, kexec, umount, clocks, raw I/O…: the kernel refuses these for want of a POSIX
 * capability before any other LSM is asked, so the refusal is seen where it is made. Left out are
 * those that callers try first and do without (DAC, FOWNER, NICE, RESOURCE…).
 */
#define CAPS_REPORTED \
	(1ull << 12 /* NET_ADMIN */ | 1ull << 16 /* SYS_MODULE */ | 1ull << 17 /* SYS_RAWIO */ | \
	 1ull << 18 /* SYS_CHROOT */ | 1ull << 21 /* SYS_ADMIN */ | 1ull << 22 /* SYS_BOOT */ | \
	 1ull << 25 /* SYS_TIME */ | 1ull << 34 /* SYSLOG */)

SEC("fexit/cap_capable")
int BPF_PROG(capability_refused, const struct cred *cred, struct user_namespace *ns, int cap,
	     unsigned int opts, int ret)
{
	struct KernelAgent *a;

	if (!ret || (opts & CAP_OPT_NOAUDIT) || cap < 0 || cap > 63 ||
	    !(CAPS_REPORTED & 1ull << cap))
		return 0;
	a = current_agent();
	if (a)
		report_plain(a, FORBIDDEN(CAPABLE, cap), 0);
	return 0;
}
