/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The kernel's types, as far as the programs look into them.
 *
 * Written by hand and checked in, in place of a full vmlinux.h: a build needs no kernel image,
 * the header does not age with one kernel release (its 135,000 lines would), and what the programs
 * depend on can be read on two pages. Every access is relocated against the running kernel's BTF
 * (CO-RE), so neither order, nor offsets, nor missing neighbours matter here; only names do.
 * Members that some kernels spell otherwise have a second flavour, `type___flavour`, and are
 * read behind bpf_core_field_exists().
 */
#pragma once

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __s32 int32_t;
typedef __u64 uint64_t;
typedef __s64 int64_t;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
typedef unsigned long size_t;
typedef unsigned short umode_t;
typedef unsigned int dev_t;

#define NULL ((void *)0)
#define true 1
#define false 0

/* Map types, flags and commands of the bpf() ABI, which never change. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_MAP_TYPE_CGRP_STORAGE = 32,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_AVAIL_DATA = 0,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};

#define EPERM 1
#define ENOENT 2
#define EAGAIN 11
#define EACCES 13
#define EXDEV 18
#define EINVAL 22

#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define NETLINK_ROUTE 0
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_IP 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_IPV6 41
#define TCP_ESTABLISHED 1
#define TCP_CLOSE 7
#define MSG_FASTOPEN 0x20000000
#define MSG_ZEROCOPY 0x4000000

#define SIGKILL 9
#define SIGTERM 15
#define SIGCONT 18
#define SIGSTOP 19

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFLNK 0120000
#define S_IFBLK 0060000
#define S_IROTH 4
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFCHR 0020000

#define MAY_EXEC 1
#define MAY_WRITE 2
#define MAY_READ 4
#define MAY_APPEND 8
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define PTRACE_MODE_ATTACH 2
#define MAP_SHARED 1
#define MAP_TYPE 15
#define VM_SHARED 8
#define FMODE_READ 1
#define FMODE_WRITE 2
#define FMODE_EXEC 0x20
#define FMODE_PATH (1 << 14)
/* What mount(2) does with a mount that is there: remounting, and whether it spreads. */
#define MS_IN_PLACE (32 | 0xful << 17)
#define O_CREAT_BIT 0100
#define O_APPEND_BIT 02000
#define O_TMPFILE_BIT 020000000
#define ATTR_MODE 1
#define ATTR_UID 2
#define ATTR_GID 4
#define ATTR_SIZE 8
#define RENAME_EXCHANGE 2
#define PTRACE_MODE_ATTACH 2
#define CAP_OPT_NOAUDIT 2
#define TCGETS 0x5401
#define TIOCSTI 0x5412
#define TIOCGWINSZ 0x5413
#define FIONREAD 0x541B
#define TIOCLINUX 0x541C

#define F_UNLCK 2
#define F_SETLEASE 1024
#define F_SETDELEG 1040
#define F_SET_RW_HINT 1036
#define F_SET_FILE_RW_HINT 1038
#define IP_OPTIONS 4
#define IP_RETOPTS 7
#define IPV6_2292RTHDR 5
#define IPV6_2292PKTOPTIONS 6
#define IPV6_FLOWLABEL_MGR 32
#define IPV6_RTHDR 57

#define SIGNAL_GROUP_EXIT 4
#define PF_KTHREAD 0x200000
#define CLOCK_BOOTTIME 7
#define SIGNAL_STOP_STOPPED 1
#define BPF_TASK_ITER_ALL_THREADS 1

#define SB_KERNMOUNT (1 << 22)
/* In place of a mount's namespace: ERR_PTR(-EINVAL). */
#define MNT_NS_INTERNAL (-22L)
#define BPF_FS_MAGIC 0xcafe4a11
#define CGROUP1_MAGIC 0x27e0eb
#define CGROUP2_MAGIC 0x63677270
#define TRACEFS_MAGIC 0x74726163
#define DEBUGFS_MAGIC 0x64626720
#define SECURITYFS_MAGIC 0x73636673
#define PROC_MAGIC 0x9fa0
#define OVERLAYFS_MAGIC 0x794c7630
#define BTRFS_MAGIC 0x9123683e
#define BCACHEFS_MAGIC 0xca451a4e

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	__u32 len;
	const unsigned char *name;
};
struct super_block {
	dev_t s_dev;
	unsigned long s_flags;
	unsigned long s_magic;
	struct dentry *s_root;
};
struct inode {
	umode_t i_mode;
	struct super_block *i_sb;
	dev_t i_rdev;
	__u64 i_ino;
	unsigned int i_nlink;
	void *i_private;
};
enum dentry_flags {
	DCACHE_PAR_LOOKUP = 1 << 24,
};
struct dentry {
	unsigned int d_flags;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};
struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};
struct mnt_namespace {};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
	int mnt_group_id;
};
/* Mounts of a superblock: a plain chain since 6.18, a list_head before. */
struct mount___chain {
	struct mount *mnt_next_for_sb;
};
struct super_block___chain {
	struct mount *s_mounts;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	unsigned int f_mode;
	void *private_data;
	struct inode *f_inode;
	unsigned int f_flags;
	struct path f_path;
};
struct vm_area_struct {
	unsigned long vm_flags;
	void *anon_vma;
	struct file *vm_file;
};
struct linux_binprm {
	unsigned long p;
	int unsafe;
	int argc;
	int envc;
	struct file *file;
	const char *filename;
	const char *interp;
	unsigned long exec;
};
struct upid {
	int nr;
};
struct pid {
	struct upid numbers[1];
};
struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
};
struct iattr {
	unsigned int ia_valid;
};
struct pt_regs {
	unsigned long di;
	unsigned long orig_ax;
};
struct renamedata {
	struct dentry *old_parent;
	struct dentry *new_parent;
	unsigned int flags;
};
struct mnt_idmap;
struct file_kattr;
struct filename;
struct open_flags;
struct posix_acl;

struct kernfs_node {
	struct kernfs_node *__parent;
	const char *name;
	__u64 id;
};
/* The parent's name before 6.15. */
struct kernfs_node___old {
	struct kernfs_node *parent;
};
struct cgroup_root;
struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
	struct cgroup *ancestors[];
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct cgroup_namespace;
struct pid_namespace;
struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct cgroup_namespace *cgroup_ns;
};
struct user_namespace;
typedef struct {
	__u64 val;
} kernel_cap_t;
struct cred {
	kernel_cap_t cap_effective;
	struct user_namespace *user_ns;
};
struct fs_struct {
	struct path root;
};
struct seccomp {
	int mode;
};
typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
};
struct thread_info {
	__u32 status;
};
struct hw_perf_event {
	struct task_struct *target;
};
struct perf_event {
	struct hw_perf_event hw;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	struct files_struct *files;
	int pid;
	int tgid;
	int exit_state;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	const struct cred *real_cred;
	const struct cred *cred;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct seccomp seccomp;
	struct css_set *cgroups;
	char comm[16];
};
struct kernel_siginfo;
struct fown_struct;
enum kernel_load_data_id { LOADING_KEXEC_IMAGE = 3, LOADING_KEXEC_INITRAMFS = 4 };
enum kernel_read_file_id { READING_FIRMWARE = 1, READING_KEXEC_IMAGE = 3, READING_KEXEC_INITRAMFS = 4 };
struct rlimit;
struct key;
union bpf_attr;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	short unsigned int skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};
struct sock_cgroup_data {
	struct cgroup *cgroup;
};
struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
	__u16 sk_protocol;
	struct sock_cgroup_data sk_cgrp_data;
};
struct socket {
	short type;
	struct sock *sk;
};
struct msghdr {
	void *msg_name;
	int msg_namelen;
	unsigned int msg_flags;
	void *msg_control;
	size_t msg_controllen;
};
struct unix_address {
	int len;
};
struct unix_sock {
	struct unix_address *addr;
	struct path path;
	struct sock *peer;
};
struct io_uring_cmd;

#pragma clang attribute pop

/* What a program about packets is given (uapi/linux/bpf.h): its layout is part of the ABI. */
struct bpf_sock;
struct __sk_buff {
	__u32 len;
	__u32 until_cb[11];
	__u32 cb[5];
	__u32 until_data[2];
	__u32 data;
	__u32 data_end;
	__u32 until_flow_keys[15];
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	struct bpf_sock *sk;
};

/* A timer, work for a task and the state of a loop over tasks; their sizes are part of the ABI. */
struct bpf_timer {
	__u64 __opaque[2];
} __attribute__((aligned(8)));
struct bpf_task_work {
	__u64 __opaque;
} __attribute__((aligned(8)));
struct bpf_iter_task {
	__u64 __opaque[3];
} __attribute__((aligned(8)));

/* The state of a bounded loop; its size is part of the ABI. */
struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));

/* Layouts of user space, which never change. */
struct sockaddr {
	__u16 sa_family;
	char sa_data[14];
};
struct sockaddr_in {
	__u16 sin_family;
	__be16 sin_port;
	__be32 sin_addr;
};
struct sockaddr_in6 {
	__u16 sin6_family;
	__be16 sin6_port;
	__be32 sin6_flowinfo;
	__u8 sin6_addr[16];
};
enum pid_type {
	PIDTYPE_PID,
	PIDTYPE_TGID,
};
