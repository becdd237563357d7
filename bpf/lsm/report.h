/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What was decided goes into the ring: one event for every denial, one for every reported use.
 *
 * `what` packs the event's head into one word, because a call passes at most five: kind in bits
 * 0-7, hook in 8-15, bit 16 for EPERM and bit 17 for EXDEV in place of EACCES, `wanted` in 32-63. `ruling` packs the
 * rule that allowed it: its number in bits 0-15, its set in 16-47 (cover.h).
 */
#pragma once

extern int bpf_path_d_path(const struct path *path, char *buf, size_t buf__sz) __ksym;
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;

#define AS_EPERM (1ull << 16)
/* As between two file systems (rename(2), link(2)): who is told so copies, and the copy is decided by itself. */
#define AS_EXDEV (1ull << 17)
#define DENIAL(hook, wanted) ((__u64)EVENT_DENIAL | (__u64)(HOOK_##hook) << 8 | (__u64)(__u32)(wanted) << 32)
#define FORBIDDEN(hook, wanted) (DENIAL(hook, wanted) | AS_EPERM)
#define USE(hook, wanted) ((__u64)EVENT_USE | (__u64)(HOOK_##hook) << 8 | (__u64)(__u32)(wanted) << 32)
#define EXECUTED(hook) ((__u64)EVENT_EXEC | (__u64)(HOOK_##hook) << 8)
#define BROKEN_SEAL(hook, wanted) ((__u64)EVENT_SEAL | (__u64)(HOOK_##hook) << 8 | AS_EPERM | (__u64)(__u32)(wanted) << 32)

#define MAX_NAMES 16 /* a power of two: it masks an index */

static __always_inline int verdict_of(__u64 what)
{
	__u8 kind = what;

	if (kind != EVENT_DENIAL && kind != EVENT_SEAL)
		return 0;
	if (what & AS_EXDEV)
		return -EXDEV;
	return what & AS_EPERM ? -EPERM : -EACCES;
}

/*
 * Stops the agent that fills the ring; the reader resumes it when the ring is nearly empty. The reader takes an entry
 * away before it lets go on, and an entry comes after the stop: so none stays stopped without an entry, whichever of
 * both is first. The count comes last, for the reader looks for entries only when it has changed.
 */
static __always_inline void throttle(struct KernelAgent *a)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 aid = a->aid;

	__sync_fetch_and_or(&a->flags, FLAG_THROTTLED);
	bpf_send_signal(SIGSTOP);
	if (bpf_map_update_elem(&throttled, &tgid, &aid, BPF_ANY)) {
		/* Nobody would resume it; the ring's last quarter has to do. */
		__sync_fetch_and_and(&a->flags, ~FLAG_THROTTLED);
		bpf_send_signal(SIGCONT);
		return;
	}
	__sync_fetch_and_add(&policy.throttles, 1);
}

/*
 * Whether the agent has to wait: the ring is nearly full, or it is filling and this agent has had its share
 * since it was nearly empty. So those who flood it stop one another, and nobody else.
 */
static __always_inline bool has_to_wait(struct KernelAgent *a, __u64 used)
{
	if (a->round != policy.round) {
		a->round = policy.round;
		a->burst = 0;
	}
	a->burst++;
	return used > policy.share_water && (used > policy.high_water || a->burst > policy.share);
}

/*
 * Counts, takes room in the ring and fills the head; NULL if there is no room. Else nothing else runs
 * on this CPU until event_submit(): a number that is taken later than its room would come out of
 * order, which the reader could not tell from a loss, and the scratch text is this CPU's, too.
 */
static __always_inline struct Event *event_begin(struct KernelAgent *a, __u64 what, __u64 ruling)
{
	__u64 used = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	__u8 kind = what;
	__u32 zero = 0;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &zero);
	struct Event *e;

	if (!tally)
		return NULL;
	if (a) {
		if (kind == EVENT_DENIAL)
			__sync_fetch_and_add(&a->denials, 1);
		else
			__sync_fetch_and_add(&a->uses, 1);
		if (unlikely(has_to_wait(a, used)))
			throttle(a);
	}
	e = NULL;
	bpf_preempt_disable();
	/* Outsiders cannot be stopped; they must not take the room that agents' records need. */
	if (a || used < policy.seal_water)
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&tally->sequence, 1);
		__sync_fetch_and_add(&tally->lost, 1);
		bpf_preempt_enable();
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = bpf_ktime_get_boot_ns();
	e->aid = a ? a->aid : 0;
	e->sequence = __sync_fetch_and_add(&tally->sequence, 1);
	e->kind = kind;
	e->cpu = bpf_get_smp_processor_id();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->hook = (__u8)(what >> 8);
	e->verdict = verdict_of(what);
	e->wanted = what >> 32;
	e->rule = ruling & 0xffff;
	e->set = ruling >> 16;
	/* As bpf_get_current_comm(), at a tenth of the cost. */
	__builtin_memcpy(e->comm, bpf_get_current_task_btf()->comm, sizeof(e->comm));
	return e;
}

/*
 * What was refused is told at once. Uses are many, and each waking of the reader costs several times
 * what the use itself does: they are taken with the next refusal, when an eighth of the ring is
 * full, or when the reader looks by itself, which it does soon while there is something.
 */
static __always_inline void event_submit(struct Event *e)
{
	__u64 flags = 0;

	if (e->kind == EVENT_USE || e->kind == EVENT_EXEC)
		flags = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > policy.high_water / 6 ?
				BPF_RB_FORCE_WAKEUP :
				BPF_RB_NO_WAKEUP;
	bpf_ringbuf_submit(e, flags);
	bpf_preempt_enable();
}

/* The verdict, once its event is in the ring. A use that cannot be recorded does not happen. */
static __always_inline int without_room(__u64 what)
{
	return verdict_of(what) ?: -EAGAIN;
}

static __noinline void object_is_inode(struct Event *e, struct dentry *d)
{
	struct inode *inode = d->d_inode;

	e->dev = d->d_sb->s_dev;
	e->ino = inode ? inode->i_ino : 0;
}

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* Appends "/" and the dentry's name at `at`; returns where the text ends. */
static __always_inline __u32 put_name(struct scratch *s, __u32 at, struct dentry *d)
{
	long n;

	at &= 255;
	s->text[at] = '/';
	n = bpf_probe_read_kernel_str(&s->text[at + 1], 256, d->d_name.name);
	return n > 0 ? at + n : at + 1;
}

/*
 * Puts the path of a dentry together by its names in this CPU's scratch text, mounts crossed where
 * `m` is known. A global function: the verifier walks its loops once, not once for each caller.
 * Counters live in memory, where the verifier does not follow each of their values.
 */
__noinline __u32 put_names(struct dentry *d __arg_untrusted, struct mount *m __arg_untrusted)
{
	struct scratch *s = scratch();
	bool cut = true;
	__u32 n;
	int i;

	if (!s)
		return 0;
	s->count = s->length = 0;
	bpf_for(i, 0, MAX_NAMES * 2) {
		struct dentry *up = d->d_parent;

		if (d == up || (m && d == m->mnt.mnt_root)) {
			struct mount *above = m ? as(mount, m->mnt_parent) : NULL;

			if (!m || above == m) {
				cut = false;
				break;
			}
			d = as(dentry, m->mnt_mountpoint);
			m = above;
			continue;
		}
		n = s->count;
		s->length += d->d_name.len + 1;
		if (n >= MAX_NAMES || (n && s->length > 250))
			break;
		s->names[n & (MAX_NAMES - 1)] = (__u64)d;
		s->count = n + 1;
		d = as(dentry, up);
	}
	s->length = 0;
	if (cut) {
		s->text[0] = s->text[1] = s->text[2] = '.';
		s->length = 3;
	}
	bpf_for(i, 0, MAX_NAMES) {
		n = s->count;
		if (!n || s->length > 255)
			break;
		n--;
		s->count = n;
		s->length = put_name(s, s->length,
				     as(dentry, (void *)s->names[n & (MAX_NAMES - 1)]));
	}
	if (!s->length) {
		s->text[0] = '/';
		s->text[1] = 0;
		s->length = 1;
	}
	return s->length;
}

/* The text is whole: hands it over, and the event. */
static __always_inline void event_end(struct Event *e, struct scratch *s, __u32 length)
{
	__u64 *to = (__u64 *)e->object;
	int i;

	/* Word by word: a loop over bytes costs the verifier 8 times as much. */
	for (i = 0; i < OBJECT_MAX / 8; i++)
		to[i] = s->words[i];
	e->object_len = length < OBJECT_MAX ? length : OBJECT_MAX - 1;
	event_submit(e);
}

static __always_inline struct mount *mount_of(struct vfsmount *m)
{
	return as(mount, (void *)m - bpf_core_field_offset(struct mount, mnt));
}

/* `path`, and below it `name` where there is one. Needs a path that the kernel vouches for. */
static __always_inline int report_at(struct KernelAgent *a, const struct path *path,
				     struct dentry *name, __u64 what, __u64 ruling)
{
	struct Event *e = event_begin(a, what, ruling);
	struct scratch *s;
	long n;

	if (!e)
		return without_room(what);
	object_is_inode(e, as(dentry, name ?: path->dentry));
	s = scratch();
	if (s) {
		n = bpf_path_d_path(path, s->text, 256);
		if (n <= 0 || n > 256)
			n = put_names(path->dentry, mount_of(path->mnt)) + 1;
		n--;
		if (name)
			n = put_name(s, n == 1 ? 0 : n, as(dentry, name));
		event_end(e, s, n);
	} else {
		event_submit(e);
	}
	return verdict_of(what);
}

/*
 * A refusal that may be none: when O_CREAT looks a name up for the first time, the kernel asks
 * whether it may be made before it knows whether it is there. The answer stands, but the event is
 * made only if the open fails for it; it is kept with the task until then.
 */
static __noinline int suspect_name(const struct path *dir, struct dentry *d, __u64 what)
{
	struct suspect *p = bpf_task_storage_get(&suspects, bpf_get_current_task_btf(), NULL,
						 BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct scratch *s;
	long n;
	int i;

	if (!p)
		return verdict_of(what);
	bpf_preempt_disable();
	s = scratch();
	if (s) {
		n = bpf_path_d_path(dir, s->text, 256);
		if (n <= 0 || n > 256)
			n = put_names(dir->dentry, mount_of(dir->mnt)) + 1;
		n--;
		n = put_name(s, n == 1 ? 0 : n, as(dentry, d));
		p->length = n < OBJECT_MAX ? n : OBJECT_MAX - 1;
		for (i = 0; i < OBJECT_MAX / 8; i++)
			p->text[i] = s->words[i];
	}
	bpf_preempt_enable();
	p->dev = as(dentry, dir->dentry)->d_sb->s_dev;
	p->what = what;
	return verdict_of(what);
}

/* Another refusal of the same operation has its event. */
static __always_inline void clear_suspect(void)
{
	struct suspect *p =
		bpf_task_storage_get(&suspects, bpf_get_current_task_btf(), NULL, 0);

	if (p)
		p->what = 0;
}

static __noinline int report_suspect(struct KernelAgent *a, struct suspect *p)
{
	struct Event *e = event_begin(a, p->what, 0);
	__u64 *to;
	int i;

	if (!e)
		return 0;
	to = (__u64 *)e->object;
	for (i = 0; i < OBJECT_MAX / 8; i++)
		to[i] = p->text[i];
	e->object_len = p->length;
	e->dev = p->dev;
	event_submit(e);
	return 0;
}

/* An open that failed, of which nobody heard: the program behind it was left out (moves.h). */
static __always_inline void report_left(struct KernelAgent *a)
{
	struct suspect *p = bpf_task_storage_get(&suspects, bpf_get_current_task_btf(), NULL, 0);

	if (p && p->what) {
		report_suspect(a, p);
		p->what = 0;
	}
}

static __noinline int report_path(struct KernelAgent *a, const struct path *path, __u64 what,
				  __u64 ruling)
{
	return report_at(a, path, NULL, what, ruling);
}

static __noinline int report_name(struct KernelAgent *a, const struct path *dir,
				  struct dentry *name, __u64 what, __u64 ruling)
{
	return report_at(a, dir, name, what, ruling);
}

/* A dentry without a path; `m` may be NULL. */
static __noinline int report_dentry(struct KernelAgent *a, struct dentry *d, struct mount *m,
				    __u64 what, __u64 ruling)
{
	struct Event *e = event_begin(a, what, ruling);
	struct scratch *s;

	if (!e)
		return without_room(what);
	d = as(dentry, d);
	object_is_inode(e, d);
	s = scratch();
	if (s)
		event_end(e, s, put_names(d, m));
	else
		event_submit(e);
	return verdict_of(what);
}

/* No object but a number: the other agent of a signal. */
static __noinline int report_plain(struct KernelAgent *a, __u64 what, __u64 target)
{
	struct Event *e = event_begin(a, what, 0);

	if (!e)
		return without_room(what);
	e->ino = target;
	event_submit(e);
	return verdict_of(what);
}

static __noinline int put_address(struct SockObject *o, const struct NetKey *k, __u32 type,
				  __u16 family)
{
	o->family = family;
	o->port = k->port;
	o->kind = type;
	__builtin_memcpy(o->addr, k->addr, sizeof(o->addr));
	return sizeof(*o);
}

/* `type` is the socket's. */
static __noinline int report_address(struct KernelAgent *a, const struct NetKey *k, __u32 type,
				     __u64 what, __u64 ruling)
{
	struct Event *e = event_begin(a, what, ruling);

	if (!e)
		return without_room(what);
	e->object_len = put_address((struct SockObject *)e->object, k, type, what >> 32);
	event_submit(e);
	return verdict_of(what);
}

/* An abstract UNIX socket is shown as everywhere: its name behind "@". */
static __noinline int report_abstract(struct KernelAgent *a, const struct AbstractKey *k,
				      __u64 what, __u64 ruling)
{
	struct Event *e = event_begin(a, what, ruling);

	if (!e)
		return without_room(what);
	e->object[0] = '@';
	__builtin_memcpy(e->object + 1, k->name, sizeof(k->name));
	e->object_len = k->len + 1;
	event_submit(e);
	return verdict_of(what);
}
