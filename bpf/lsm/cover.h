/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What covers a file: the union of the live grants on its inode and on everything above it,
 * mounts crossed. Decided by (device, inode), never by name.
 */
#pragma once

/* Deeper files are not covered by a grant further up. */
#define MAX_DEPTH 64
#define MAX_MOUNTS 16

/* Every right that one hands down. */
#define RIGHTS_ALL (RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC | RIGHT_CREATE | RIGHT_DELETE | RIGHT_UNIX)
#define RIGHTS_OPEN (RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC)
#define RIGHTS_CHANGE (RIGHT_WRITE | RIGHT_CREATE | RIGHT_DELETE)

/* The answer, in one word: rights, whether one of them expires, and which rule gave the wanted. */
#define COVER_EXPIRES (1ull << 16)
#define COVER_RULE_SHIFT 32

static __always_inline __u32 rights_of(__u64 cover)
{
	return cover & 0xff;
}

static __always_inline __u32 rule_of(__u64 cover)
{
	return cover >> COVER_RULE_SHIFT;
}

/* `all` of the bits, and one of `any` where that is not zero. */
static __always_inline bool enough(__u32 have, __u32 all, __u32 any)
{
	return (have & all) == all && (!any || (have & any));
}

/*
 * Adds what the agent holds on exactly this inode. A global function, as those below: the verifier
 * walks its loop once and not once for each state of its callers.
 */
__noinline __u64 add_grants(struct FsKey *k __arg_nonnull, __u64 cover, __u32 want)
{
	__u64 dev = k->dev;
	int layer;

	bpf_for(layer, 0, GRANT_LAYERS) {
		struct Grant *g = bpf_map_lookup_elem(&fs_caps, k);
		__u32 rights;

		if (!g)
			break;
		rights = g->rights;
		if (g->expires_ns && bpf_ktime_get_boot_ns() >= g->expires_ns)
			rights &= RIGHT_MORE;
		else if (g->expires_ns && (rights & want & ~cover))
			cover |= COVER_EXPIRES;
		if ((rights & want & ~cover) && !rule_of(cover))
			cover |= (__u64)g->rule << COVER_RULE_SHIFT;
		cover |= rights & (RIGHTS_ALL | RIGHT_TRAVERSE);
		if (!(rights & RIGHT_MORE))
			break;
		k->dev += 1ull << 32;
	}
	k->dev = dev;
	return cover;
}

/*
 * Walks from `d` to the root of the namespace and gathers rights until `all` and `any` are there.
 * With `m` NULL the walk ends at the root of the superblock. A global function: the verifier walks
 * its loop once, not once for each caller.
 */
__noinline __u64 cover_from(__u64 aid, struct dentry *d __arg_untrusted,
			    struct mount *m __arg_untrusted, __u32 all_any)
{
	__u32 all = all_any & 0xff, any = all_any >> 8;
	struct FsKey k = { .aid = aid };
	__u64 cover = 0;
	int i;

	bpf_for(i, 0, MAX_DEPTH) {
		struct inode *inode = d->d_inode;
		struct dentry *up = d->d_parent;

		if (inode) {
			k.dev = d->d_sb->s_dev;
			k.ino = inode->i_ino;
			cover = add_grants(&k, cover, all | any);
			/* The right to look at an ancestor is for that ancestor only. */
			if (i)
				cover &= ~(__u64)RIGHT_TRAVERSE;
			if (enough(rights_of(cover), all, any))
				break;
		}
		if (d == up || (m && d == m->mnt.mnt_root)) {
			struct mount *above;

			if (!m)
				break;
			above = as(mount, m->mnt_parent);
			if (above == m)
				break;
			d = as(dentry, m->mnt_mountpoint);
			m = above;
			continue;
		}
		d = as(dentry, up);
	}
	return cover;
}

#define BOTH(all, any) ((all) | (any) << 8)

static __always_inline __u64 cover_path(struct KernelAgent *a, const struct path *p, __u32 all,
					__u32 any)
{
	return cover_from(a->aid, as(dentry, p->dentry), mount_of(p->mnt), BOTH(all, any));
}

/* A name in a directory that was reached by a path. */
static __always_inline __u64 cover_name(struct KernelAgent *a, const struct path *dir,
					struct dentry *d, __u32 all, __u32 any)
{
	return cover_from(a->aid, as(dentry, d), mount_of(dir->mnt), BOTH(all, any));
}

/*
 * A dentry for which the hook knows no mount: covered if it is through any of the mounts of its
 * superblock in the caller's namespace, for the caller could come that way.
 */
static __noinline __u64 cover_dentry(__u64 aid, struct dentry *d, __u32 all_any)
{
	struct task_struct *me = bpf_get_current_task_btf();
	struct super_block___chain *sb;
	struct dentry *root;
	struct mount *m;
	__u64 best = 0, cover;
	int i;

	d = as(dentry, d);
	if (!bpf_core_field_exists(struct mount___chain, mnt_next_for_sb))
		return cover_from(aid, d, NULL, all_any);
	root = d->d_sb->s_root;
	sb = (void *)d->d_sb;
	m = as(mount, BPF_CORE_READ(sb, s_mounts));
	bpf_for(i, 0, MAX_MOUNTS) {
		if (!m)
			break;
		if (m->mnt_ns == me->nsproxy->mnt_ns && m->mnt.mnt_root == root) {
			cover = cover_from(aid, d, m, all_any);
			if (enough(rights_of(cover), all_any & 0xff, all_any >> 8))
				return cover;
			best |= cover;
		}
		m = as(mount, BPF_CORE_READ((struct mount___chain *)m, mnt_next_for_sb));
	}
	return best ?: cover_from(aid, d, NULL, all_any);
}

/*
 * On a mount that only the kernel itself has: pipes, sockets, memfd and anonymous inodes, which have
 * no path, and the lower file of an overlay, which was decided when the upper one was. The mount
 * decides and not the superblock: that of /dev/mqueue or securityfs is the kernel's too, but who
 * comes to it by a path comes by an ordinary mount.
 */
static __always_inline bool is_internal(const struct path *p)
{
	return (long)mount_of(p->mnt)->mnt_ns == MNT_NS_INTERNAL;
}

static __always_inline bool passes(struct file *f)
{
	return is_internal(&f->f_path);
}

/* File systems that are the kernel's own controls: no capability allows an agent to change them. */
static __always_inline bool is_control_fs(unsigned long magic)
{
	return magic == CGROUP2_MAGIC || magic == BPF_FS_MAGIC || magic == TRACEFS_MAGIC ||
	       magic == DEBUGFS_MAGIC || magic == SECURITYFS_MAGIC;
}

static __always_inline __u64 epochs_of(struct KernelAgent *a)
{
	return (__u64)a->cap_epoch << 32 | policy.epoch;
}

/*
 * The second word of a verdict: rights in bits 0-7, those of them that the rule gave in 8-15, the
 * rule in 16-31, and above that a check of the first word.
 */
static __always_inline __u64 check_of(__u64 epochs)
{
	return epochs * 0x9e3779b97f4a7c15ull & ~0xffffffffull;
}

/*
 * Whether a remembered verdict allows it: the shortest way through a check. The file is open, so
 * the name that it was opened by was covered, and what could change that voids the verdict.
 */
static __always_inline bool remembered(struct KernelAgent *a, struct file *f, __u32 all)
{
	struct verdict *v = bpf_inode_storage_get(&verdicts, f->f_inode, NULL, 0);
	__u64 epochs = epochs_of(a);

	return v && v->epochs == epochs &&
	       !((v->rights ^ (check_of(epochs) | all)) & (~0xffffffffull | all));
}

/*
 * What covers an open file, remembered per inode. A file with several names is not remembered:
 * what one name may do, another may not. Neither is what will expire, nor a large rule number.
 * `ruled` asks for the rule too, which a remembered verdict knows for some of its rights only.
 */
static __always_inline __u64 cover_file(struct KernelAgent *a, struct file *f, __u32 all,
					__u32 any, bool ruled)
{
	struct inode *inode = f->f_inode;
	__u64 epochs = epochs_of(a), cover, rights;
	struct verdict *v = NULL;

	if (inode->i_nlink <= 1 || (inode->i_mode & S_IFMT) == S_IFDIR)
		v = bpf_inode_storage_get(&verdicts, inode, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (v && v->epochs == epochs) {
		rights = v->rights;
		if ((rights & ~0xffffffffull) == check_of(epochs) &&
		    enough(rights & 0xff & (ruled ? rights >> 8 : ~0ull), all, any))
			return (rights & 0xff) | (rights >> 16 & 0xffff) << COVER_RULE_SHIFT;
	}
	cover = cover_path(a, &f->f_path, all, any);
	if (v && enough(rights_of(cover), all, any) && !(cover & COVER_EXPIRES) &&
	    rule_of(cover) <= 0xffff) {
		rights = check_of(epochs) | (__u64)rule_of(cover) << 16 |
			 (rights_of(cover) & (all | any)) << 8 | rights_of(cover);
		v->epochs = epochs;
		v->rights = rights;
	}
	return cover;
}
