/* SPDX-License-Identifier: Apache-2.0
 *
 * A PKCS#11 module that forwards to another one, injects faults, and counts what passes.
 *
 * Built by tests/cast/hsm.py with -DREAL_MODULE="..." -DDIRECTORY="...": two strings, so that it works in
 * every process that loads it, whatever its environment.
 *
 * DIRECTORY/control is read again whenever it changes (replace it by rename). One rule on each line; the first
 * rule that fits a call decides; an empty or absent file forwards everything:
 *
 *     <function> <action> [<number>] [p=<0..1>] [n=<count>] [skip=<count>] [once=<word>]
 *
 *     function   a name such as C_UnwrapKey, or * for all that are forwarded through here (see FUNCTIONS)
 *     action     rv <code>     answer this CKR code (0x.. or decimal) and do not forward
 *                before <ms>   wait, then forward
 *                after <ms>    forward, then wait: what was unwrapped is alive meanwhile
 *                kill-before   SIGKILL this process instead of forwarding
 *                kill-after    forward, then SIGKILL this process
 *     p          the rule fits with this probability (default 1)
 *     n          the rule fits this many times in each process, counted since the file was read (default: always)
 *     skip       the rule lets this many calls pass first
 *     once       the rule fits once for all processes together: for the one that creates DIRECTORY/once-<word>
 *
 * DIRECTORY/calls.log gets two lines for each C_Initialize, C_Login, C_UnwrapKey, C_WrapKey, C_Sign,
 * C_GenerateKey and C_GenerateKeyPair that is forwarded (one write each, O_APPEND), and one for an injected code:
 *
 *     <pid> enter <function> <CKA_ID of the key in hex, or -> - <ns>
 *     <pid> leave <function> <CKA_ID> <code> <ns>
 *     <pid> injected <function> <CKA_ID> <code> <ns>
 *
 * ns is CLOCK_MONOTONIC, which all processes share: what lies between the two lines is the time in the real module.
 *
 * A kill between the two leaves an "enter" alone: unwraps of a key = its "enter C_UnwrapKey" lines.
 *
 * After fork() the child gets CKR_CRYPTOKI_NOT_INITIALIZED until it calls C_Initialize itself, as hardware
 * modules answer and SoftHSM does not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;

#define CKR_OK 0x0UL
#define CKR_GENERAL_ERROR 0x5UL
#define CKR_NOT_INITIALIZED 0x190UL
#define CKA_ID 0x102UL
#define ENTRIES 68

/* CK_FUNCTION_LIST, PKCS#11 2.40 section 3.6: a version, then 68 functions in this order. */
typedef struct { unsigned char major, minor; void *function[ENTRIES]; } list_t;
enum { INITIALIZE = 0, FINALIZE = 1, GET_FUNCTION_LIST = 3, GET_ATTRIBUTE_VALUE = 24 };

/* place in the list, name, parameters, arguments, session and key handles for the log (0: none), logged or not,
 * what ends the operation when an error is injected */
#define NOTHING (void)0
#define ENDS end_operation((void *)next, a, b, c)
#define FUNCTIONS(X) \
  X(0, C_Initialize, (void *a), (a), 0, 0, 1, NOTHING) \
  X(4, C_GetSlotList, (unsigned char a, ulong_t *b, ulong_t *c), (a, b, c), 0, 0, 0, NOTHING) \
  X(6, C_GetTokenInfo, (ulong_t a, void *b), (a, b), 0, 0, 0, NOTHING) \
  X(11, C_SetPIN, (ulong_t a, void *b, ulong_t c, void *d, ulong_t e), (a, b, c, d, e), 0, 0, 0, NOTHING) \
  X(12, C_OpenSession, (ulong_t a, ulong_t b, void *c, void *d, ulong_t *e), (a, b, c, d, e), 0, 0, 0, NOTHING) \
  X(18, C_Login, (ulong_t a, ulong_t b, void *c, ulong_t d), (a, b, c, d), 0, 0, 1, NOTHING) \
  X(20, C_CreateObject, (ulong_t a, attribute_t *b, ulong_t c, ulong_t *d), (a, b, c, d), 0, 0, 0, NOTHING) \
  X(22, C_DestroyObject, (ulong_t a, ulong_t b), (a, b), 0, 0, 0, NOTHING) \
  X(24, C_GetAttributeValue, (ulong_t a, ulong_t b, attribute_t *c, ulong_t d), (a, b, c, d), 0, 0, 0, NOTHING) \
  X(26, C_FindObjectsInit, (ulong_t a, attribute_t *b, ulong_t c), (a, b, c), 0, 0, 0, NOTHING) \
  X(27, C_FindObjects, (ulong_t a, ulong_t *b, ulong_t c, ulong_t *d), (a, b, c, d), 0, 0, 0, NOTHING) \
  X(29, C_EncryptInit, (ulong_t a, void *b, ulong_t c), (a, b, c), 0, 0, 0, NOTHING) \
  X(30, C_Encrypt, (ulong_t a, void *b, ulong_t c, void *d, ulong_t *e), (a, b, c, d, e), 0, 0, 0, ENDS) \
  X(33, C_DecryptInit, (ulong_t a, void *b, ulong_t c), (a, b, c), 0, 0, 0, NOTHING) \
  X(34, C_Decrypt, (ulong_t a, void *b, ulong_t c, void *d, ulong_t *e), (a, b, c, d, e), 0, 0, 0, ENDS) \
  X(42, C_SignInit, (ulong_t a, void *b, ulong_t c), (a, b, c), 0, 0, 0, NOTHING) \
  X(43, C_Sign, (ulong_t a, void *b, ulong_t c, void *d, ulong_t *e), (a, b, c, d, e), 0, 0, 1, ENDS) \
  X(58, C_GenerateKey, (ulong_t a, void *b, attribute_t *c, ulong_t d, ulong_t *e), (a, b, c, d, e), 0, 0, 1, NOTHING) \
  X(59, C_GenerateKeyPair, (ulong_t a, void *b, attribute_t *c, ulong_t d, attribute_t *e, ulong_t f, \
    ulong_t *g, ulong_t *h), (a, b, c, d, e, f, g, h), 0, 0, 1, NOTHING) \
  X(60, C_WrapKey, (ulong_t a, void *b, ulong_t c, ulong_t d, void *e, ulong_t *f), (a, b, c, d, e, f), a, c, 1, NOTHING) \
  X(61, C_UnwrapKey, (ulong_t a, void *b, ulong_t c, void *d, ulong_t e, attribute_t *f, ulong_t g, ulong_t *h), \
    (a, b, c, d, e, f, g, h), a, c, 1, NOTHING)

enum action { FORWARD, RV, BEFORE, AFTER, KILL_BEFORE, KILL_AFTER };
struct rule { char function[32]; enum action action; ulong_t number; double probability; long times, skip; char once[32]; };

static list_t *real, ours;
static pid_t initialized_by;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[64];
static int rule_count;
static struct stat seen;
static unsigned int random_state;

static enum action action_named(const char *name)
{
    static const char *names[] = {"", "rv", "before", "after", "kill-before", "kill-after"};
    for (int i = RV; i <= KILL_AFTER; i++)
        if (!strcmp(name, names[i]))
            return (enum action)i;
    fprintf(stderr, "interposer: no action %s\n", name);
    abort();
}

static void read_rules(void)
{
    struct stat now;
    memset(&now, 0, sizeof now);
    if (stat(DIRECTORY "/control", &now) == 0 && now.st_ino == seen.st_ino && now.st_size == seen.st_size
        && !memcmp(&now.st_mtim, &seen.st_mtim, sizeof now.st_mtim))
        return;
    seen = now;
    rule_count = 0;
    FILE *file = fopen(DIRECTORY "/control", "re");
    if (!file)
        return;
    char line[256];
    while (rule_count < 64 && fgets(line, sizeof line, file)) {
        struct rule rule = {"", FORWARD, 0, 1.0, -1, 0, ""};
        char *rest, *word = strtok_r(line, " \n", &rest);
        if (!word)
            continue;
        snprintf(rule.function, sizeof rule.function, "%s", word);
        if (!(word = strtok_r(NULL, " \n", &rest)))
            continue;
        rule.action = action_named(word);
        while ((word = strtok_r(NULL, " \n", &rest))) {
            if (!strncmp(word, "p=", 2))
                rule.probability = atof(word + 2);
            else if (!strncmp(word, "n=", 2))
                rule.times = atol(word + 2);
            else if (!strncmp(word, "skip=", 5))
                rule.skip = atol(word + 5);
            else if (!strncmp(word, "once=", 5))
                snprintf(rule.once, sizeof rule.once, "%s", word + 5);
            else
                rule.number = strtoul(word, NULL, 0);
        }
        rules[rule_count++] = rule;
    }
    fclose(file);
}

static int first_for(const char *word)
{
    char path[4096];
    snprintf(path, sizeof path, DIRECTORY "/once-%s", word);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file >= 0)
        close(file);
    return file >= 0;
}

static struct rule decide(const char *function)
{
    struct rule decided = {"", FORWARD, 0, 1.0, -1, 0, ""};
    pthread_mutex_lock(&mutex);
    read_rules();
    for (int i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if ((strcmp(rule->function, function) && strcmp(rule->function, "*")) || rule->times == 0)
            continue;
        if (rule->skip > 0) {
            rule->skip--;
            continue;
        }
        if (rule->probability < 1 && rand_r(&random_state) > rule->probability * RAND_MAX)
            continue;
        if (*rule->once && !first_for(rule->once))
            continue;
        if (rule->times > 0)
            rule->times--;
        decided = *rule;
        break;
    }
    pthread_mutex_unlock(&mutex);
    return decided;
}

static void note(const char *what, const char *function, const char *id, const char *code)
{
    char line[256];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(line, sizeof line, "%d %s %s %s %s %lld\n", (int)getpid(), what, function, id, code,
                          now.tv_sec * 1000000000LL + now.tv_nsec);
    int file = open(DIRECTORY "/calls.log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length)
        abort();
    close(file);
}

static void key_id(char out[65], ulong_t session, ulong_t key)
{
    unsigned char id[32];
    attribute_t wanted = {CKA_ID, id, sizeof id};
    ulong_t (*get)(ulong_t, ulong_t, attribute_t *, ulong_t) = real->function[GET_ATTRIBUTE_VALUE];
    strcpy(out, "-");
    if (!key || get(session, key, &wanted, 1) != CKR_OK || wanted.length == 0 || wanted.length > sizeof id)
        return;
    for (ulong_t i = 0; i < wanted.length; i++)
        sprintf(out + 2 * i, "%02x", id[i]);
}

static void wait_milliseconds(ulong_t milliseconds)
{
    struct timespec left = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000L};
    while (nanosleep(&left, &left) != 0)
        ;
}

/* An error ends the operation (PKCS#11 2.40 section 5.2); the real module has not heard of it. It is ended by
 * its own doing, into a buffer of ours: SoftHSM offers no other way for a signature of one part. */
static void end_operation(void *function, ulong_t session, void *data, ulong_t length)
{
    unsigned char discarded[8192];
    ulong_t size = sizeof discarded;
    ulong_t (*next)(ulong_t, void *, ulong_t, void *, ulong_t *) = function;
    next(session, data, length, discarded, &size);
}

#define FORWARDER(place, name, parameters, arguments, session, key, logged, ending) \
    static ulong_t name parameters \
    { \
        ulong_t (*next) parameters = real->function[place]; \
        char id[65] = "-", code[24]; \
        if (place == INITIALIZE) { \
            initialized_by = getpid(); \
            random_state = (unsigned int)getpid(); \
        } else if (initialized_by != getpid()) \
            return CKR_NOT_INITIALIZED; \
        struct rule rule = decide(#name); \
        if (logged) \
            key_id(id, (ulong_t)(session), (ulong_t)(key)); \
        if (rule.action == RV) { \
            snprintf(code, sizeof code, "%#lx", rule.number); \
            note("injected", #name, id, code); \
            ending; \
            return rule.number; \
        } \
        if (rule.action == KILL_BEFORE) \
            kill(getpid(), SIGKILL); \
        if (rule.action == BEFORE) \
            wait_milliseconds(rule.number); \
        if (logged) \
            note("enter", #name, id, "-"); \
        ulong_t answer = next arguments; \
        if (rule.action == KILL_AFTER) \
            kill(getpid(), SIGKILL); \
        if (rule.action == AFTER) \
            wait_milliseconds(rule.number); \
        if (logged) { \
            snprintf(code, sizeof code, "%#lx", answer); \
            note("leave", #name, id, code); \
        } \
        return answer; \
    }

FUNCTIONS(FORWARDER)

/* The child of a fork has nothing to finalise. */
static ulong_t C_Finalize(void *reserved)
{
    ulong_t (*next)(void *) = real->function[FINALIZE];
    return initialized_by == getpid() ? next(reserved) : CKR_NOT_INITIALIZED;
}

static ulong_t load_real(void)
{
    void *module = dlopen(REAL_MODULE, RTLD_NOW | RTLD_LOCAL);
    ulong_t (*get)(list_t **) = module ? (ulong_t (*)(list_t **))dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    ours = *real;
#define ENTRY(place, name, parameters, arguments, session, key, logged, ending) ours.function[place] = (void *)name;
    FUNCTIONS(ENTRY)
    ours.function[FINALIZE] = (void *)C_Finalize;
    return CKR_OK;
}

__attribute__((visibility("default"))) ulong_t C_GetFunctionList(list_t **list)
{
    ulong_t answer = CKR_OK;
    pthread_mutex_lock(&mutex);
    if (!real)
        answer = load_real();
    pthread_mutex_unlock(&mutex);
    *list = &ours;
    return answer;
}
