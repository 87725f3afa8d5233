/*
 * modstamp: keeps caches of what a program's plug-ins can do from going stale when packages come
 * and go.
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
 * Probe again whenever a function returns anything but MODSTAMP_OK, errors included. "why" is
 * then a text in UTF-8: one sentence, or one line for each reason. With MODSTAMP_OK it is NULL.
 * Free these texts with modstamp_free(). Pass NULL as "why" if you do not need the reasons.
 *
 * Many threads may call a function at once, and so may a child after fork(2). The functions keep
 * nothing between two calls but in a watch, install no signal handler and print nothing. They do
 * not end the process, unless it is out of memory.
 *
 * They read the environment: HOME, XDG_CONFIG_HOME, XDG_STATE_HOME and the variables that the
 * profile names. No other thread may change it meanwhile; see getenv(3). In a set-user-ID
 * program they ignore it.
 *
 * A look at more than 4,096 files in one directory, or at more than 8 MiB that must be read, starts
 * up to three threads of 256 KiB of stack each. They end before the function returns. They inherit
 * the priority, the rights and the blocked signals of the calling thread. So a handler of a signal
 * that is not blocked may run in such a thread. If only one processor may be used, the function
 * starts no thread. Without room for a thread, the calling thread does all the work.
 *
 * The functions need 256 KiB of stack. A thread that is cancelled by pthread_cancel(3) ends when
 * the call is done. Its cancellation must be deferred, which is the default: an asynchronous one
 * may end the process (pthread_setcanceltype(3)).
 *
 * modstamp_touch() writes a file. Beyond the limit of file sizes, the kernel sends SIGXFSZ, which
 * ends a process that does not ignore it; see setrlimit(2).
 *
 * See libmodstamp(3), and modstamp-profile(5) for profiles.
 */

#ifndef MODSTAMP_H
#define MODSTAMP_H

#ifdef __cplusplus
extern "C" {
#endif

/* The functions' values. Later versions may add some: probe again at any but MODSTAMP_OK. */
enum {
    MODSTAMP_OK = 0,        /* done; a checked witness's answer still holds */
    MODSTAMP_STALE = 1,     /* something differs, or the witness cannot be read */
    MODSTAMP_INVALID = -1,  /* an argument is wrong */
    MODSTAMP_FAILED = -2,   /* the profile is wrong, or the system refused */
    MODSTAMP_PANICKED = -3  /* a fault in modstamp itself */
};

/*
 * Observes all that a profile names: stamps, modules, programs, files, variables, the host and
 * libraries. Call it before the probe, and store the witness with the answer. The witness is text
 * in UTF-8, some 100 bytes for each module.
 *
 * "profile" is "qemu", the name of another profile, or the path of a profile's file, which has a
 * "/" in it.
 *
 * It may wait if something changed just now: some milliseconds, and four seconds at most.
 */
int modstamp_observe(const char *profile, char **witness, char **why);

/*
 * Like modstamp_observe(), for the answer of one program: an upgrade of another program of the
 * profile does not make it stale. "program" is its absolute path; the profile need not name it.
 * NULL stands for all programs of the profile.
 *
 * "tag" is a text of your own, such as your version and build. An answer that was stored with
 * another tag is stale, because another consumer stores another answer. NULL stands for no tag.
 */
int modstamp_observe_for(const char *profile, const char *program, const char *tag, char **witness, char **why);

/*
 * Looks again after the probe. Returns MODSTAMP_STALE if something was touched since the witness
 * was observed, even if it is the same again. Such an answer may be used, but must not be
 * stored.
 */
int modstamp_disturbed(const char *profile, const char *witness, char **why);

/*
 * Compares a stored witness with the present inputs. Returns MODSTAMP_OK if the answer that was
 * stored with it still holds. Otherwise returns MODSTAMP_STALE, and the reasons in ten lines at
 * most. A text that is no witness is stale.
 */
int modstamp_check(const char *profile, const char *witness, char **why);

/* Like modstamp_check(), for a witness that was observed with this tag. NULL stands for no tag. */
int modstamp_check_for(const char *profile, const char *tag, const char *witness, char **why);

/*
 * Tells of a change that no check can see. Touches the profile's stamp: for root the system's,
 * and for any other user that user's own. The older witnesses of the same user are then stale. If
 * root touches, those of every user are. "reason" is for people who look at the stamp later, and
 * may be empty.
 *
 * It waits for the disk, and up to five seconds for others that touch at the same time. If others
 * hold the lock for longer, it touches without the lock, and does not report that. It makes no
 * cache of another program good, not even libvirt's; `modstamp touch` does. While an image is
 * built (SOURCE_DATE_EPOCH is set), it makes no first stamp, and that is no error.
 */
int modstamp_touch(const char *profile, const char *reason, char **why);

/*
 * Checks witnesses in a program that stays, at the price of a poll(2) while nothing changes. It
 * holds some descriptors. One thread at a time may use a watch, and no child after fork(2).
 */
typedef struct modstamp_watch modstamp_watch;

/*
 * Opens a watch of a profile's inputs, for witnesses with this tag; NULL stands for no tag. Close
 * it with modstamp_watch_close(). If the inputs cannot be watched, each check looks at all of them.
 * The profile is read once. To read it again, open another watch.
 */
int modstamp_watch_open(const char *profile, const char *tag, modstamp_watch **watch, char **why);

/* Like modstamp_check_for(), with the profile and the tag of the watch. */
int modstamp_watch_check(modstamp_watch *watch, const char *witness, char **why);

/*
 * The descriptor of a watch. It becomes readable if something happened, so a main loop can wait
 * for it (POLLIN), and then check. It is quiet again after a check. It tells neither of variables
 * nor of files in /proc and /sys. NULL gives -1.
 */
int modstamp_watch_fd(const modstamp_watch *watch);

/* Closes a watch. NULL is allowed. */
void modstamp_watch_close(modstamp_watch *watch);

/* Frees a text that one of these functions gave. NULL is allowed. */
void modstamp_free(char *text);

/* The version of the library at run time, for example "0.1.0". Do not free it. */
const char *modstamp_version(void);

#ifdef __cplusplus
}
#endif

#endif
