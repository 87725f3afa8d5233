/*
 * A program that uses libmodstamp as a daemon would: one promise a function, started by its name. c.rs builds it in
 * several ways and starts it in an empty directory, where it makes its own profile and modules.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <malloc.h>
#include <modstamp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROFILE "./gstreamer.toml"
#define MODULE "modules/libgstvpx.so"

#define EXPECT(condition)                                                            \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                \
        }                                                                            \
    } while (0)

/* The call gives this code, and a reason that has this in it. */
#define EXPECT_WHY(call, code, part)                                          \
    do {                                                                      \
        char *why = (char *)"";                                               \
        int given = call;                                                     \
        if (given != (code) || why == NULL || strstr(why, part) == NULL) {    \
            fprintf(stderr, "%s:%d: %s gave %d: %s\n", __FILE__, __LINE__, #call, given, why); \
            _exit(1);                                                         \
        }                                                                     \
        modstamp_free(why);                                                   \
    } while (0)

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    EXPECT(fd >= 0);
    EXPECT(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    EXPECT(close(fd) == 0);
}

static void write_profile(const char *path)
{
    char here[2000], text[4000];

    EXPECT(getcwd(here, sizeof here) != NULL);
    snprintf(text, sizeof text, "module-directories = [\"%s/modules\"]\n", here);
    write_file(path, text);
}

static char *observe(void)
{
    char *witness = NULL, *why = (char *)"";

    if (modstamp_observe(PROFILE, &witness, &why) != MODSTAMP_OK) {
        fprintf(stderr, "cannot observe: %s\n", why);
        _exit(1);
    }
    EXPECT(witness != NULL && why == NULL);
    return witness;
}

static void an_answer_holds_until_a_module_changes(void)
{
    char *witness = observe();
    char *why = (char *)"";

    EXPECT(modstamp_check(PROFILE, witness, &why) == MODSTAMP_OK);
    EXPECT(why == NULL);
    write_file(MODULE, "another");
    EXPECT_WHY(modstamp_check(PROFILE, witness, &why), MODSTAMP_STALE, "libgstvpx.so");
    EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_STALE);
    modstamp_free(witness);
}

static void a_probe_that_was_disturbed_is_told(void)
{
    char *witness = observe();
    char *why = (char *)"";

    EXPECT(modstamp_disturbed(PROFILE, witness, &why) == MODSTAMP_OK);
    EXPECT(why == NULL);
    write_file("modules/new.so", "comes");
    EXPECT(unlink("modules/new.so") == 0); /* and goes */
    EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
    EXPECT_WHY(modstamp_disturbed(PROFILE, witness, &why), MODSTAMP_STALE, "touched during the probe");
    modstamp_free(witness);

    witness = observe();
    write_file(MODULE, "a plug-");
    write_file(MODULE, "a plug-in");
    EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
    EXPECT_WHY(modstamp_disturbed(PROFILE, witness, &why), MODSTAMP_STALE, "libgstvpx.so was touched");
    modstamp_free(witness);
}

static void a_touch_makes_every_witness_stale(void)
{
    /* Not the profile whose stamp others look at meanwhile. */
    const char *touched = "./vlc.toml";
    char *witness = NULL, *why = (char *)"";

    write_profile(touched);
    EXPECT(modstamp_observe(touched, &witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_touch(touched, "a new licence key", &why) == MODSTAMP_OK);
    EXPECT(why == NULL);
    EXPECT_WHY(modstamp_check(touched, witness, &why), MODSTAMP_STALE, "stamp touched");
    modstamp_free(witness);
    EXPECT(modstamp_observe(touched, &witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_touch(touched, "", NULL) == MODSTAMP_OK);
    EXPECT(modstamp_check(touched, witness, NULL) == MODSTAMP_STALE);
    modstamp_free(witness);
}

static void an_answer_of_one_program_holds_while_another_is_upgraded(void)
{
    const char *profile = "./programs.toml";
    char here[2000], text[4000], one[2100], *witness = NULL, *all = NULL, *again = NULL;

    EXPECT(getcwd(here, sizeof here) != NULL);
    snprintf(text, sizeof text, "programs = [\"%s/program-*\"]\n", here);
    snprintf(one, sizeof one, "%s/program-one", here);
    write_file(profile, text);
    write_file("program-one", "one");
    write_file("program-two", "two");
    EXPECT(modstamp_observe_for(profile, one, NULL, &witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_observe_for(profile, NULL, NULL, &all, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_disturbed(profile, witness, NULL) == MODSTAMP_OK);
    write_file("program-two", "upgraded");
    EXPECT(modstamp_check(profile, witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_disturbed(profile, witness, NULL) == MODSTAMP_OK);
    EXPECT_WHY(modstamp_check(profile, all, &why), MODSTAMP_STALE, "program-two");
    write_file("program-one", "upgraded");
    EXPECT_WHY(modstamp_check(profile, witness, &why), MODSTAMP_STALE, "program-one");
    EXPECT_WHY(modstamp_observe_for(profile, "program-one", NULL, &again, &why),
               MODSTAMP_INVALID, "“program”: it is relative");
    modstamp_free(witness);
    modstamp_free(all);
}

static void an_answer_of_another_consumer_is_stale(void)
{
    char *witness = NULL, *untagged = observe();

    EXPECT(modstamp_observe_for(PROFILE, NULL, "libvirt 11.2", &witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_disturbed(PROFILE, witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_check_for(PROFILE, "libvirt 11.2", witness, NULL) == MODSTAMP_OK);
    EXPECT_WHY(modstamp_check_for(PROFILE, "libvirt 11.3", witness, &why), MODSTAMP_STALE,
               "consumer changed: it was “libvirt 11.2”, now “libvirt 11.3”");
    EXPECT_WHY(modstamp_check(PROFILE, witness, &why), MODSTAMP_STALE, "now no tag");
    EXPECT_WHY(modstamp_check_for(PROFILE, "libvirt 11.3", untagged, &why), MODSTAMP_STALE,
               "it was no tag");
    EXPECT_WHY(modstamp_check_for(PROFILE, "\xff", witness, &why), MODSTAMP_INVALID, "“tag”: it is not text");
    modstamp_free(witness);
    modstamp_free(untagged);
}

static int descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    EXPECT(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static bool wakes(const modstamp_watch *watch)
{
    struct pollfd fd = { modstamp_watch_fd(watch), POLLIN, 0 };

    return poll(&fd, 1, 0) == 1;
}

/* Other tests mount file systems meanwhile, so a watch may wake up at any time. */
static void a_watch_checks_and_wakes_a_main_loop_up(void)
{
    modstamp_watch *watch = NULL;
    char *witness = NULL, *untagged = observe();

    EXPECT(modstamp_observe_for(PROFILE, NULL, "libvirt 11.2", &witness, NULL) == MODSTAMP_OK);
    int before = descriptors();
    EXPECT(modstamp_watch_open(PROFILE, "libvirt 11.2", &watch, NULL) == MODSTAMP_OK);
    for (int i = 0; i < 3; i++) {
        EXPECT(modstamp_watch_check(watch, witness, NULL) == MODSTAMP_OK);
        EXPECT_WHY(modstamp_watch_check(watch, untagged, &why), MODSTAMP_STALE, "it was no tag");
        EXPECT_WHY(modstamp_watch_check(watch, "", &why), MODSTAMP_STALE, "witness");
    }
    write_file(MODULE, "another plug-in");
    EXPECT(wakes(watch));
    EXPECT_WHY(modstamp_watch_check(watch, witness, &why), MODSTAMP_STALE, "libgstvpx.so in");
    EXPECT_WHY(modstamp_watch_check(watch, witness, &why), MODSTAMP_STALE, "libgstvpx.so in");
    write_file(MODULE, "a plug-in");
    EXPECT(modstamp_watch_check(watch, witness, NULL) == MODSTAMP_OK);
    modstamp_watch_close(watch);
    EXPECT(descriptors() == before);

    EXPECT_WHY(modstamp_watch_open("no-such", NULL, &watch, &why), MODSTAMP_FAILED, "no-such");
    EXPECT(watch == NULL);
    EXPECT_WHY(modstamp_watch_open(PROFILE, NULL, NULL, &why), MODSTAMP_INVALID, "“watch”: it is NULL");
    EXPECT_WHY(modstamp_watch_check(NULL, witness, &why), MODSTAMP_INVALID, "“watch”: it is NULL");
    EXPECT(modstamp_watch_fd(NULL) == -1);
    modstamp_watch_close(NULL);
    modstamp_free(witness);
    modstamp_free(untagged);
}

static void bad_arguments_get_a_code_and_a_sentence(void)
{
    char *witness = (char *)"";

    EXPECT_WHY(modstamp_observe(NULL, &witness, &why), MODSTAMP_INVALID, "“profile”: it is NULL");
    EXPECT(witness == NULL);
    EXPECT_WHY(modstamp_observe(PROFILE, NULL, &why), MODSTAMP_INVALID, "“witness”: it is NULL");
    EXPECT_WHY(modstamp_observe("", &witness, &why), MODSTAMP_FAILED, "profile");
    EXPECT_WHY(modstamp_observe("no-such", &witness, &why), MODSTAMP_FAILED, "there is no profile “no-such”");
    EXPECT_WHY(modstamp_observe("./no-such.toml", &witness, &why), MODSTAMP_FAILED, "./no-such.toml");
    EXPECT_WHY(modstamp_observe("../..", &witness, &why), MODSTAMP_FAILED, "“” cannot be");
    EXPECT_WHY(modstamp_observe("gst\xff", &witness, &why), MODSTAMP_INVALID, "not text in UTF-8");
    write_file("zero.toml", "files = [\"\\u0000\"]");
    EXPECT_WHY(modstamp_observe("./zero.toml", &witness, &why), MODSTAMP_FAILED, "\\x00");
    EXPECT_WHY(modstamp_check(NULL, "", &why), MODSTAMP_INVALID, "“profile”: it is NULL");
    EXPECT_WHY(modstamp_check(PROFILE, NULL, &why), MODSTAMP_INVALID, "“witness”: it is NULL");
    EXPECT_WHY(modstamp_disturbed(PROFILE, NULL, &why), MODSTAMP_INVALID, "“witness”: it is NULL");
    EXPECT_WHY(modstamp_disturbed(NULL, "", &why), MODSTAMP_INVALID, "“profile”: it is NULL");
    EXPECT_WHY(modstamp_touch(NULL, "", &why), MODSTAMP_INVALID, "“profile”: it is NULL");
    EXPECT_WHY(modstamp_touch(PROFILE, NULL, &why), MODSTAMP_INVALID, "“reason”: it is NULL");
    EXPECT_WHY(modstamp_touch(PROFILE, "\xff", &why), MODSTAMP_INVALID, "not text in UTF-8");
    EXPECT(modstamp_observe(NULL, NULL, NULL) == MODSTAMP_INVALID);
    EXPECT(modstamp_check(NULL, NULL, NULL) == MODSTAMP_INVALID);
    EXPECT(modstamp_disturbed(NULL, NULL, NULL) == MODSTAMP_INVALID);
    EXPECT(modstamp_touch(NULL, NULL, NULL) == MODSTAMP_INVALID);
    modstamp_free(NULL);
}

static void what_is_no_witness_is_stale(void)
{
    static const char line[] = "module 100644 0:0 9 - ? libgstvpx.so\n";
    const size_t length = 100 * 1000 * 1000;
    char *large = malloc(length + 1), *witness = observe();

    EXPECT(large != NULL);
    EXPECT_WHY(modstamp_check(PROFILE, "", &why), MODSTAMP_STALE, "it is empty");
    EXPECT_WHY(modstamp_check(PROFILE, "\xff\x01", &why), MODSTAMP_STALE, "UTF-8");
    EXPECT_WHY(modstamp_disturbed(PROFILE, "", &why), MODSTAMP_STALE, "it is empty");
    EXPECT_WHY(modstamp_check("qemu", witness, &why), MODSTAMP_STALE, "profile");
    witness[strlen(witness) / 2] = '\0';
    EXPECT_WHY(modstamp_check(PROFILE, witness, &why), MODSTAMP_STALE, "whole witness");

    memset(large, 'x', length);
    large[length] = '\0';
    EXPECT_WHY(modstamp_check(PROFILE, large, &why), MODSTAMP_STALE, "does not begin with");
    /* As good a witness as 100 MB can be, but for its end. */
    strcpy(large, "modstamp-witness 1 gstreamer\ndirectory 40755 0:0 0 - - /modules\n");
    size_t at = strlen(large);
    while (at + sizeof line <= length) {
        memcpy(large + at, line, sizeof line);
        at += sizeof line - 1;
    }
    EXPECT_WHY(modstamp_check(PROFILE, large, &why), MODSTAMP_STALE, "cut off");
    free(large);
    modstamp_free(witness);
}

static void a_profile_that_disappears_between_two_calls_is_told(void)
{
    char *witness = observe();

    EXPECT(unlink(PROFILE) == 0);
    EXPECT_WHY(modstamp_check(PROFILE, witness, &why), MODSTAMP_FAILED, PROFILE);
    EXPECT_WHY(modstamp_disturbed(PROFILE, witness, &why), MODSTAMP_FAILED, PROFILE);
    write_profile(PROFILE);
    EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
    modstamp_free(witness);
}

/* Whether a fault is to happen: see clock_nanosleep() at the end. */
static volatile bool is_faulty;

static void a_fault_inside_is_a_code_and_not_the_end(void)
{
    char *witness = NULL, *why = NULL;
    int code = MODSTAMP_OK;

    is_faulty = true;
    /* An observation sleeps if a module was changed within the same tick of the clock. */
    for (int tries = 0; tries < 1000 && code == MODSTAMP_OK; tries++) {
        modstamp_free(witness);
        write_file(MODULE, "changed");
        code = modstamp_observe(PROFILE, &witness, &why);
    }
    is_faulty = false;
    EXPECT(code == MODSTAMP_PANICKED && witness == NULL);
    EXPECT(strstr(why, "a fault of its own") != NULL && strstr(why, "report it") != NULL);
    modstamp_free(why);
    witness = observe();
    EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
    modstamp_free(witness);
}

static void *check_often(void *witness)
{
    for (int i = 0; i < 200; i++) {
        char *own = observe();

        EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
        EXPECT(modstamp_check(PROFILE, own, NULL) == MODSTAMP_OK);
        EXPECT_WHY(modstamp_check(PROFILE, "", &why), MODSTAMP_STALE, "it is empty");
        modstamp_free(own);
    }
    return NULL;
}

static void two_threads_may_call_at_once(void)
{
    char *witness = observe();
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        EXPECT(pthread_create(&threads[i], NULL, check_often, witness) == 0);
    for (int i = 0; i < 2; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    modstamp_free(witness);
}

static void a_small_stack_is_enough(void)
{
    char deep[2000] = "modules";
    pthread_attr_t small;
    pthread_t thread;

    for (int i = 0; i < 31; i++) {
        strcat(deep, "/below");
        EXPECT(mkdir(deep, 0755) == 0);
    }
    strcat(deep, "/libgstdeep.so");
    write_file(deep, "a plug-in");
    char *witness = observe();
    EXPECT(strstr(witness, "libgstdeep.so") != NULL);
    EXPECT(pthread_attr_init(&small) == 0);
    EXPECT(pthread_attr_setstacksize(&small, 256 * 1024) == 0);
    EXPECT(pthread_create(&thread, &small, check_often, witness) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    modstamp_free(witness);
}

static volatile bool is_over;

static void *check_until_over(void *witness)
{
    while (!is_over)
        EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
    return NULL;
}

static void a_child_after_fork_may_call(void)
{
    char *witness = observe();
    pthread_t thread;

    /* So that some forks happen in the midst of a call. */
    EXPECT(pthread_create(&thread, NULL, check_until_over, witness) == 0);
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        int status = 0;

        EXPECT(child >= 0);
        if (child == 0) {
            alarm(60); /* who waits for the other thread waits for ever */
            char *own = observe();
            EXPECT(modstamp_check(PROFILE, own, NULL) == MODSTAMP_OK);
            EXPECT_WHY(modstamp_check(PROFILE, "", &why), MODSTAMP_STALE, "it is empty");
            modstamp_free(own);
            _exit(0);
        }
        EXPECT(waitpid(child, &status, 0) == child);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    is_over = true;
    EXPECT(pthread_join(thread, NULL) == 0);
    modstamp_free(witness);
}

#define PATH_SIZE 1000

/* A profile whose stamp nobody else touches. */
static void own_profile(const char *name, char *profile)
{
    snprintf(profile, PATH_SIZE, "./%s-%d.toml", name, getpid());
    write_profile(profile);
}

/* Opens the lock of such a profile after a touch: beside the system's stamp for root, or beside one's
 * own. Its name has a number, because the profile was given by a path. */
static int open_lock(const char *name)
{
    char directory[PATH_SIZE], lock[PATH_SIZE];
    glob_t found;
    int fd;

    snprintf(directory, PATH_SIZE, "%s/.local/state/modstamp", getenv("HOME"));
    snprintf(lock, PATH_SIZE, "%.800s/.%s-%d-*.lock", geteuid() == 0 ? "/var/lib/modstamp" : directory, name, getpid());
    EXPECT(glob(lock, 0, NULL, &found) == 0 && found.gl_pathc == 1);
    fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
    EXPECT(fd >= 0);
    globfree(&found);
    return fd;
}

static void *touch_until_over(void *profile)
{
    while (!is_over)
        EXPECT(modstamp_touch(profile, "", NULL) == MODSTAMP_OK);
    return NULL;
}

static void a_child_after_fork_holds_no_touch_up(void)
{
    char profile[PATH_SIZE];
    pid_t children[50];
    pthread_t thread;
    int fd;

    own_profile("fork", profile);
    EXPECT(pthread_create(&thread, NULL, touch_until_over, profile) == 0);
    for (int i = 0; i < 50; i++) {
        usleep(1000);
        children[i] = fork(); /* in the midst of a touch, now and then */
        EXPECT(children[i] >= 0);
        if (children[i] == 0) {
            pause();
            _exit(0);
        }
    }
    is_over = true;
    EXPECT(pthread_join(thread, NULL) == 0);
    fd = open_lock("fork");
    EXPECT(flock(fd, LOCK_EX | LOCK_NB) == 0);
    EXPECT(close(fd) == 0);
    for (int i = 0; i < 50; i++) {
        EXPECT(kill(children[i], SIGKILL) == 0);
        EXPECT(waitpid(children[i], NULL, 0) == children[i]);
    }
}

static void *touch_once(void *profile)
{
    EXPECT(modstamp_touch(profile, "", NULL) == MODSTAMP_OK);
    return NULL;
}

static void threads_touch_at_once_also_where_somebody_else_keeps_the_turn(void)
{
    char profile[PATH_SIZE];
    pthread_t threads[24];
    int fd;

    own_profile("turn", profile);
    touch_once(profile);
    fd = open_lock("turn");
    EXPECT(flock(fd, LOCK_EX | LOCK_NB) == 0);
    for (int i = 0; i < 24; i++)
        EXPECT(pthread_create(&threads[i], NULL, touch_once, profile) == 0);
    for (int i = 0; i < 24; i++)
        EXPECT(pthread_join(threads[i], NULL) == 0);
    EXPECT(close(fd) == 0);
}

static void *check_for_ever(void *witness)
{
    for (;;) {
        EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
        pthread_testcancel();
    }
}

static void a_thread_that_is_cancelled_is_not_the_end(void)
{
    char *witness = observe();

    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        void *result = NULL;

        EXPECT(pthread_create(&thread, NULL, check_for_ever, witness) == 0);
        usleep(500);
        EXPECT(pthread_cancel(thread) == 0);
        EXPECT(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    modstamp_free(witness);
}

static void a_set_user_id_program_believes_no_environment(void)
{
    char *witness = NULL;

    EXPECT(getuid() != geteuid());
    EXPECT(getenv("MODULES") != NULL);
    write_file("variable.toml", "module-directories = [\"$MODULES\"]\n");
    EXPECT(modstamp_observe("./variable.toml", &witness, NULL) == MODSTAMP_OK);
    EXPECT(strstr(witness, "\nvariable MODULES -\n") != NULL);
    modstamp_free(witness);
}

static void signals_are_left_alone(void)
{
    struct sigaction after;
    sigset_t blocked;

    modstamp_free(observe());
    for (int number = 1; number < 32; number++) {
        EXPECT(sigaction(number, NULL, &after) == 0);
        EXPECT(after.sa_handler == SIG_DFL);
    }
    EXPECT(pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0);
    EXPECT(sigisemptyset(&blocked));
}

static void call_in_every_way(const char *witness)
{
    char *own = observe(), *why = NULL;

    EXPECT(modstamp_check(PROFILE, witness, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_check(PROFILE, own, NULL) == MODSTAMP_OK);
    EXPECT(modstamp_check(PROFILE, "", &why) == MODSTAMP_STALE);
    modstamp_free(why);
    EXPECT(modstamp_check("no-such", own, &why) == MODSTAMP_FAILED);
    modstamp_free(why);
    modstamp_free(own);
}

static void a_million_calls_leave_memory_and_descriptors_where_they_were(void)
{
    char *witness = observe();

    call_in_every_way(witness); /* what is made once */
    size_t bytes = mallinfo2().uordblks;
    int open_before = descriptors();
    for (int i = 0; i < 200 * 1000; i++)
        call_in_every_way(witness); /* five calls */
    EXPECT(descriptors() == open_before);
    EXPECT(mallinfo2().uordblks == bytes);
    modstamp_free(witness);
}

static void the_version_is_that_of_the_package(void)
{
    EXPECT(strcmp(modstamp_version(), VERSION) == 0);
}

#define PROMISE(name) { #name, name }
static const struct {
    const char *name;
    void (*keep)(void);
} promises[] = {
    PROMISE(an_answer_holds_until_a_module_changes),
    PROMISE(a_probe_that_was_disturbed_is_told),
    PROMISE(a_touch_makes_every_witness_stale),
    PROMISE(an_answer_of_one_program_holds_while_another_is_upgraded),
    PROMISE(an_answer_of_another_consumer_is_stale),
    PROMISE(a_watch_checks_and_wakes_a_main_loop_up),
    PROMISE(bad_arguments_get_a_code_and_a_sentence),
    PROMISE(what_is_no_witness_is_stale),
    PROMISE(a_profile_that_disappears_between_two_calls_is_told),
    PROMISE(a_fault_inside_is_a_code_and_not_the_end),
    PROMISE(two_threads_may_call_at_once),
    PROMISE(a_small_stack_is_enough),
    PROMISE(a_child_after_fork_may_call),
    PROMISE(a_child_after_fork_holds_no_touch_up),
    PROMISE(threads_touch_at_once_also_where_somebody_else_keeps_the_turn),
    PROMISE(a_thread_that_is_cancelled_is_not_the_end),
    PROMISE(a_set_user_id_program_believes_no_environment),
    PROMISE(signals_are_left_alone),
    PROMISE(a_million_calls_leave_memory_and_descriptors_where_they_were),
    PROMISE(the_version_is_that_of_the_package),
};

int main(int count, char **arguments)
{
    EXPECT(count == 2);
    EXPECT(mkdir("modules", 0755) == 0);
    write_file(MODULE, "a plug-in");
    write_profile(PROFILE);
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        if (strcmp(arguments[1], promises[i].name) == 0) {
            promises[i].keep();
            return 0;
        }
    }
    fprintf(stderr, "there is no promise %s\n", arguments[1]);
    return 1;
}

/*
 * Rust's standard library panics if a sleep fails for another reason than a signal. These stand in
 * for the C library's, of which it calls one or the other.
 */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
    if (is_faulty)
        return EINVAL;
    return syscall(SYS_clock_nanosleep, clock, flags, time, left) == 0 ? 0 : errno;
}

int nanosleep(const struct timespec *time, struct timespec *left)
{
    int error = clock_nanosleep(CLOCK_REALTIME, 0, time, left);

    errno = error;
    return error == 0 ? 0 : -1;
}
