/*
 * modstamp: keeps caches of what a program's plug-ins can do from going stale when packages come and go.
 *
 * Observe, then probe, then store; later, check:
 *
 *     char *witness, *why;
 *
 *     if (modstamp_observe("qemu", &witness, NULL) == MODSTAMP_OK) {
 *         answer = probe();
 *         if (modstamp_disturbed("qemu", witness, NULL) == MODSTAMP_OK)
 *             store(answer, witness);
 *         modstamp_free(witness);
 *     }
 *     ...
 *     if (modstamp_check("qemu", stored_witness, &why) != MODSTAMP_OK) {
 *         log("probing again: %s", why);
 *         modstamp_free(why);
 *     }
 *
 * Whatever is not MODSTAMP_OK is a reason to probe again, errors too. "why" is then a text in UTF-8, of one line a reason or
 * of one sentence, and otherwise NULL. Texts that are given out are freed with modstamp_free(). Who does not want to
 * know why passes NULL.
 *
 * Each function may be called by many threads at once, and by a child after fork(2). They keep nothing between two
 * calls, install no signal handler, print nothing and do not end the process, unless it is out of memory. They read the
 * environment (HOME, XDG_CONFIG_HOME, XDG_STATE_HOME and what the profile names), so that no other thread may change
 * it meanwhile, as getenv(3) tells; set-user-ID programs have none that is read. They want 256 KiB of stack, and put off
 * the cancellation of their thread (pthread_cancel(3)) until they are done.
 *
 * See libmodstamp(3), and modstamp-profile(5) for profiles.
 */

#ifndef MODSTAMP_H
#define MODSTAMP_H

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions return. Others may come: whatever is not MODSTAMP_OK means that nothing may be relied on. */
enum {
    MODSTAMP_OK = 0,        /* done; of a witness: nothing is different, the answer still holds */
    MODSTAMP_STALE = 1,     /* something is different, or the witness cannot be read: probe again */
    MODSTAMP_INVALID = -1,  /* an argument is wrong */
    MODSTAMP_FAILED = -2,   /* the profile or the system did not allow it */
    MODSTAMP_PANICKED = -3  /* a fault in modstamp itself */
};

/*
 * Tells what there is of a profile's inputs: its stamps, modules, programs and further files. Call it before the probe whose answer
 * is to be cached, and store the witness with the answer: it is text in UTF-8, some 100 bytes for each module.
 *
 * "profile" is "qemu", the name of another profile, or the path of a profile's file, which has a "/" in it.
 *
 * It may wait, some milliseconds and four seconds at most, where something was changed just now.
 */
int modstamp_observe(const char *profile, char **witness, char **why);

/*
 * Looks again when the probe is over: whether something was touched since the witness was observed, and be it back to
 * what it was. The answer may then be used, and must not be stored.
 */
int modstamp_disturbed(const char *profile, const char *witness, char **why);

/*
 * Judges a stored witness by what there is now: MODSTAMP_OK where the answer that was stored with it still holds, MODSTAMP_STALE where
 * it does not, with every reason, in ten lines at most. A text that is no witness is stale.
 */
int modstamp_check(const char *profile, const char *witness, char **why);

/*
 * Says that something changed which nobody can see: moves the profile's stamp, for root the system's, for everybody else their own,
 * so that every witness of before is stale. "reason" is for who looks at the stamp later, and may be empty. It reaches
 * those who use modstamp; `modstamp touch` makes libvirt ask again, too. Where others touch at the same time it waits
 * for its turn, five seconds at most, and for the disk. While an image is built (SOURCE_DATE_EPOCH is set) it makes no first stamp,
 * and that is no error.
 */
int modstamp_touch(const char *profile, const char *reason, char **why);

/* Frees a text that one of these functions gave; NULL is nothing to free. */
void modstamp_free(char *text);

/* The version of the library that runs, for example "0.1.0". It is not to be freed. */
const char *modstamp_version(void);

#ifdef __cplusplus
}
#endif

#endif
