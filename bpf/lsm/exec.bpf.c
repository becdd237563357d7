// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs: which may be started. */

/* Asked for the program, and once more for the interpreter of a script. */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct KernelAgent *a = current_agent();
	struct file *f = bprm->file;
	__u64 cover;

	if (!a)
		return 0;
	if (unlikely(quarantined(a)))
		return report_path(a, &f->f_path, DENIAL(QUARANTINE, 0), 0);
	/* A program without a path (memfd) can be covered by nothing. */
	if (passes(f))
		return report_path(a, &f->f_path, DENIAL(BPRM_CHECK, RIGHT_EXEC), 0);
	cover = cover_file(a, f, RIGHT_EXEC, 0, true);
	if (!enough(rights_of(cover), RIGHT_EXEC, 0))
		return report_path(a, &f->f_path, DENIAL(BPRM_CHECK, RIGHT_EXEC), 0);
	/* The kernel starts with both names equal and changes one of them for a script. */
	if (bprm->interp == bprm->filename)
		return report_path(a, &f->f_path, EXECUTED(BPRM_CHECK), rule_of(cover));
	return 0;
}
