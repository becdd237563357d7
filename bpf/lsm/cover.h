/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What covers a file: the union of the live grants on its inode and on everything above it,
 * mounts crossed. Decided by the inode, never by name.
 */
#pragma once

/* Deeper files are not covered by a grant further up. */
#define MAX_DEPTH 64
#define MAX_MOUNTS 16

/* Every right that one hands down. */
#define RIGHTS_ALL \
	(RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC | RIGHT_CREATE | RIGHT_DELETE | RIGHT_UNIX | RIGHT_APPEND)
#define RIGHTS_OPEN (RIGHT_READ | RIGHT_WRITE | RIGHT_EXEC)
#define RIGHTS_CHANGE (RIGHT_WRITE | RIGHT_APPEND | RIGHT_CREATE | RIGHT_DELETE)

/*
 * The answer, in one word: rights in bits 0-7 and 9, whether one of them expires in bit 8, and which rule
 * gave the wanted: its number in bits 16-31, its set in 32-63. The upper 48 bits are what report.h
 * takes as `ruling`.
 */
#define RIGHTS_WANTED (0xff | RIGHT_LOAD)
#define COVER_EXPIRES (1ull << 8)
#define COVER_RULING_SHIFT 16

static __always_inline __u32 rights_of(__u64 cover)
{
	return cover & RIGHTS_WANTED;
}

static __always_inline __u64 ruling_of(__u64 cover)
{
	return cover >> COVER_RULING_SHIFT;
}

static __always_inline __u64 ruling(__u32 set, __u32 rule)
{
	return rule ? ((__u64)set << 16 | (rule & 0xffff)) << COVER_RULING_SHIFT : 0;
}

/* `all` of the bits, and one of `any` where that is not zero. */
static __always_inline bool enough(__u32 have, __u32 all, __u32 any)
{
	return (have & all) == all && (!any || (have & any));
}

static __always_inline bool over(const struct Grant *g)
{
	return g->expires_ns && bpf_ktime_get_boot_ns() >= g->expires_ns;
}

/* More than one file gave the rights, or one beyond a mount of a part: no stamp says all of that. */
#define BY_NONE 0xffffffffu
#define BY_SEVERAL 0xfffffffeu

/* Beside the rights that are wanted: the file in question lies below the one that is looked at. */
#define WANT_BELOW (1u << 16)

/* What a walk found. */
struct found {
	__u64 cover;
	/* Number of the file that gave the wanted rights. */
	__u32 by;
	__u32 reserved;
};

/*
 * Adds what one set gives on exactly this file. A global function, as those below: the verifier
 * walks its loop once and not once for each state of its callers.
 */
__noinline __u64 add_grants(__u32 set, __u32 file, __u64 cover, __u32 want)
{
	struct GrantKey k = { .set = set, .file = file };
	int layer;

	bpf_for(layer, 0, GRANT_LAYERS) {
		struct Grant *g;
		__u32 rights;

		k.layer = layer;
		g = bpf_map_lookup_elem(&fs_caps, &k);
		if (!g)
			break;
		rights = g->rights;
		if (over(g) || !counts_for(set, g, want))
			rights &= RIGHT_MORE;
		else if (g->expires_ns && (rights & want & ~cover))
			cover |= COVER_EXPIRES;
		if ((rights & want & ~cover) && !ruling_of(cover))
			cover |= ruling(set, g->rule);
		cover |= rights & (RIGHTS_ALL | RIGHT_TRAVERSE | RIGHT_LOAD);
		if (!(rights & RIGHT_MORE))
			break;
	}
	return cover;
}

/* File systems on which two files can have one number, or one file another number tomorrow. */
static __always_inline bool shares_numbers(unsigned long magic)
{
	return magic == OVERLAYFS_MAGIC || magic == BTRFS_MAGIC || magic == BCACHEFS_MAGIC;
}

/*
 * By what a file is known. Where numbers are shared it is the inode in memory: a file has one there,
 * and the daemon keeps it there, open, while somebody has a right on it.
 */
static __always_inline void know(struct FileKey *k, struct super_block *sb, struct inode *inode)
{
	k->dev = sb->s_dev;
	k->ino = inode->i_ino;
	if (unlikely(shares_numbers(sb->s_magic))) {
		k->dev |= FILE_IN_MEMORY;
		k->ino = (__u64)inode;
	}
}

/* A file that has rules, or NULL. */
static __always_inline struct FileNode *node_of(const struct FileKey *k, __u32 *number)
{
	__u64 *found = bpf_map_lookup_elem(&files, k);
	struct FileNode *n;

	if (!found)
		return NULL;
	*number = *found;
	n = bpf_map_lookup_elem(&file_nodes, number);
	return n && n->file.dev == k->dev && n->file.ino == k->ino ? n : NULL;
}

/* Adds what all sets of the list give on one file that has rules, of which `reach` lets down. */
__noinline __u64 add_sets(__u64 list, __u32 file, __u64 reach, __u64 cover, __u32 want)
{
	struct RightsList *l = bpf_map_lookup_elem(&lists, &list);
	bool below = want & WANT_BELOW;
	int i;

	if (!l)
		return cover;
	bpf_for(i, 0, LIST_SETS) {
		__u32 set;

		if (i >= l->count)
			break;
		set = l->sets[i];
		if (below && !(reach & 1ull << (set & 63)))
			continue;
		cover = add_grants(set, file, cover, want & (RIGHTS_WANTED | WANT_COUNTED | WANT_LEFT));
		/* The right to look at a folder is for that folder only. */
		if (below)
			cover &= ~(__u64)RIGHT_TRAVERSE;
	}
	return cover;
}

/*
 * Walks from `d` to the root of the namespace and gathers rights until `all` and `any` are there.
 * With `m` NULL the walk ends at the root of the superblock.
 */
__noinline int walk(__u64 list, struct found *out __arg_nonnull, struct dentry *d __arg_untrusted,
		    struct mount *m __arg_untrusted, __u32 all_any)
{
	__u32 all = all_any & 0xff, any = all_any >> 8 & RIGHTS_WANTED;
	__u32 want = all | any | (all_any & (WANT_COUNTED | WANT_LEFT));
	__u64 cover = 0, before;
	__u32 by = BY_NONE;
	struct dentry *root = m ? m->mnt.mnt_root : NULL;
	bool partial = false;
	struct super_block *sb = NULL;
	struct FileKey k = {};
	int i;

	bpf_for(i, 0, MAX_DEPTH) {
		struct inode *inode = d->d_inode;
		struct dentry *up = d->d_parent;

		/* As know(), which looks at the file system each time. */
		if (d->d_sb != sb) {
			sb = d->d_sb;
			k.dev = sb->s_dev | (shares_numbers(sb->s_magic) ? FILE_IN_MEMORY : 0);
		}
		if (inode) {
			__u32 number = 0;
			struct FileNode *n;

			k.ino = unlikely(k.dev & FILE_IN_MEMORY) ? (__u64)inode : inode->i_ino;
			n = node_of(&k, &number);

			if (n && (!i || n->sets)) {
				before = cover;
				cover = add_sets(list, number, n->sets, cover,
						 want | (i ? WANT_BELOW : 0));
				if (rights_of(cover & ~before) & want)
					by = by == BY_NONE && !partial ? number : BY_SEVERAL;
				if (enough(rights_of(cover), all, any))
					break;
			}
		}
		if (d == root) {
			struct mount *above = as(mount, m->mnt_parent);

			if (above == m)
				break;
			/* What leaves the part of a file system that is mounted leaves what covers the
			 * mount, and no rename tells of it. */
			partial |= d != up;
			d = as(dentry, m->mnt_mountpoint);
			m = above;
			root = m->mnt.mnt_root;
			continue;
		}
		/* The root of the file system, but not of the mount: it was moved out of what is mounted. */
		if (d == up)
			break;
		d = as(dentry, up);
	}
	out->cover = cover;
	out->by = by;
	return 0;
}

#define BOTH(all, any) ((all) | (any) << 8)

/* What the agent holds there. A list is never changed, so this sees old rights or new ones. */
static __always_inline __u64 cover_from(struct KernelAgent *a, struct dentry *d, struct mount *m,
					__u32 all_any)
{
	struct found found = {};

	walk(a->list, &found, d, m, all_any);
	return found.cover;
}

/* With what only a counted rule covers: for looking, which takes no use. */
static __always_inline __u64 cover_to_see(struct KernelAgent *a, const struct path *p, __u32 all, __u32 any)
{
	return cover_from(a, as(dentry, p->dentry), mount_of(p->mnt), BOTH(all, any) | WANT_COUNTED);
}

static __always_inline __u64 cover_path(struct KernelAgent *a, const struct path *p, __u32 all,
					__u32 any)
{
	return cover_from(a, as(dentry, p->dentry), mount_of(p->mnt), BOTH(all, any));
}

/* A name in a directory that was reached by a path. */
static __always_inline __u64 cover_name(struct KernelAgent *a, const struct path *dir,
					struct dentry *d, __u32 all_any)
{
	return cover_from(a, as(dentry, d), mount_of(dir->mnt), all_any);
}

/*
 * A dentry for which the hook knows no mount: covered if it is through any of the mounts of its
 * superblock in the caller's namespace, for the caller could come that way.
 */
static __noinline __u64 cover_dentry(struct KernelAgent *a, struct dentry *d, __u32 all_any)
{
	struct task_struct *me = bpf_get_current_task_btf();
	struct super_block___chain *sb;
	struct dentry *root;
	struct mount *m;
	__u64 best = 0, cover;
	int i;

	d = as(dentry, d);
	if (!bpf_core_field_exists(struct mount___chain, mnt_next_for_sb))
		return cover_from(a, d, NULL, all_any);
	root = d->d_sb->s_root;
	sb = (void *)d->d_sb;
	m = as(mount, BPF_CORE_READ(sb, s_mounts));
	bpf_for(i, 0, MAX_MOUNTS) {
		if (!m)
			break;
		if (m->mnt_ns == me->nsproxy->mnt_ns && m->mnt.mnt_root == root) {
			cover = cover_from(a, d, m, all_any);
			if (enough(rights_of(cover), all_any & 0xff, all_any >> 8 & RIGHTS_WANTED))
				return cover;
			best |= cover;
		}
		m = as(mount, BPF_CORE_READ((struct mount___chain *)m, mnt_next_for_sb));
	}
	return best ?: cover_from(a, d, NULL, all_any);
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

/*
 * A pointer as a number: the verifier lets no pointer be multiplied. The index is always 0, but it
 * does not know that: what comes from a place that it is not sure of is a number.
 */
static __always_inline __u64 address_of(const void *pointer)
{
	volatile __u64 places[2] = {};
	__u32 i = policy.sealed >> 1 & 1;

	places[i] = (__u64)pointer;
	return places[i];
}

/* Where the verdict on an open file is kept. */
static __always_inline struct OpenedFile *slot_of(__u64 file)
{
	__u32 i = (file >> 6) * 0x9e3779b97f4a7c15ull >> 48;

	return bpf_map_lookup_elem(&opened_files, &i);
}

/* What must not change for a verdict to hold; 0 for none. */
static __always_inline __u64 stamp_of(__u32 by)
{
	struct FileNode *n = bpf_map_lookup_elem(&file_nodes, &by);

	return n ? n->epoch + policy.epoch : 0;
}

/* Voids what rests on one file's rules. The count of moves comes first: see cover_file. */
static __always_inline void void_file(__u32 by)
{
	struct FileNode *n = bpf_map_lookup_elem(&file_nodes, &by);

	__sync_fetch_and_add(&policy.moves, 1);
	if (n)
		__sync_fetch_and_add(&n->epoch, 1);
}

static __always_inline __u64 check_of(const struct OpenedFile *o, __u64 inode)
{
	__u64 sum = (o->file ^ inode) * 0x9e3779b97f4a7c15ull;

	sum = (sum ^ o->list) * 0xc2b2ae3d27d4eb4full;
	sum = (sum ^ o->stamp) * 0x165667b19e3779f9ull;
	return sum ^ ((__u64)o->by << 32 | o->rights);
}

/*
 * Whether a remembered verdict allows it: the shortest way through a check. The verdict goes with
 * the file (file_freed), so an address that is used again does not bring it back.
 */
static __always_inline bool remembered(struct KernelAgent *a, struct file *f, __u32 all)
{
	__u64 file = address_of(f);
	struct OpenedFile *o = slot_of(file), v;

	if (!o || unlikely(policy.moving))
		return false;
	v = *o;
	return v.file == file && v.list == a->list && (v.rights & all) == all &&
	       v.stamp == stamp_of(v.by) && v.check == check_of(&v, f->f_inode->i_ino);
}

/* What covers an open file, remembered with it. */
static __always_inline __u64 cover_file(struct KernelAgent *a, struct file *f, __u32 all, __u32 any)
{
	struct OpenedFile *o, v = { .file = address_of(f), .list = a->list };
	struct found found = {};
	/* Before the walk: what changes meanwhile voids the verdict, or keeps it from being kept. */
	__u64 mounts = policy.epoch, moves = policy.moves;
	struct FileNode *n;

	walk(v.list, &found, as(dentry, f->f_path.dentry), mount_of(f->f_path.mnt), BOTH(all, any));
	if (!enough(rights_of(found.cover), all, any) || (found.cover & COVER_EXPIRES) ||
	    (rights_of(found.cover) & RIGHT_APPEND))
		return found.cover;
	v.by = found.by;
	n = bpf_map_lookup_elem(&file_nodes, &v.by);
	o = slot_of(v.file);
	if (!n || !o)
		return found.cover;
	v.stamp = n->epoch + mounts;
	if (policy.moves != moves)
		return found.cover;
	v.rights = rights_of(found.cover) & (all | any);
	v.check = check_of(&v, f->f_inode->i_ino);
	*o = v;
	return found.cover;
}
