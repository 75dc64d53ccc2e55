/* Switching from task to task: what `park`, `pause` and `wake` of `scheduler.py` do
 * nearly always. The Python twins are `plain_park` and so on there, and the classes of
 * `_fields.py`. Whatever is unusual is left to the twins before anything has changed.
 *
 * No bytecode runs in here until the greenlet is switched, so no signal handler does
 * either: the twins must allow for one between any two lines. Only the limited API is
 * used.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <structmember.h>

/* A task's or the loop's fields: see `_fields.py`. Base classes. */
enum { BLOW, GREENLET, OVER, STATUS, VALUE, WHAT, FIELDS };
enum { CURRENT, DEFERRED, LEFT, NO_SWITCH, TO_HUB };

typedef struct {
    PyObject_HEAD
    PyObject *field[FIELDS];
} Fields;

#define FIELD(object, name) (((Fields *)(object))->field[name])

static PyTypeObject *loop_type, *task_type;

/* What `begin` was given. */
static PyObject *loop, *main_task, *ready, *append, *popleft, *getcurrent, *plain_park, *plain_pause, *put_back;
/* Constants of `scheduler.py`, and a name. */
static PyObject *status_run, *status_wait, *status_ready, *its_turn, *name_switch;

static int
fields_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    for (int i = 0; i < FIELDS; i++) {
        Py_VISIT(FIELD(object, i));
    }
    return 0;
}

static int
fields_clear(PyObject *object)
{
    for (int i = 0; i < FIELDS; i++) {
        Py_CLEAR(FIELD(object, i));
    }
    return 0;
}

static void
fields_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(object);
    fields_clear(object);
    release(object);
    Py_DECREF(type);
}

/* Sets `*field` to `value`, which is borrowed. */
static void
set(PyObject **field, PyObject *value)
{
    PyObject *before = *field;
    *field = Py_NewRef(value);
    Py_XDECREF(before);
}

static int
is_task(PyObject *object)
{
    return object != NULL && main_task != NULL && Py_TYPE(object) == Py_TYPE(main_task);
}

/* Whether `task` is a task of ours, not the main program, and runs. (How the main
 * program blocks is left to the Python functions.) -1 with an error. */
static int
runs(PyObject *task)
{
    if (!is_task(task) || task == main_task || FIELD(loop, LEFT) == NULL || FIELD(loop, TO_HUB) == NULL) {
        return 0;
    }
    PyObject *here = PyObject_CallNoArgs(getcurrent);
    Py_XDECREF(here);
    return here == NULL ? -1 : here == FIELD(task, GREENLET);
}

/* Whether nothing keeps `task` from switching: no cancel and no `task.no_switch`. */
static int
may_switch(PyObject *task)
{
    return FIELD(task, BLOW) == Py_None && FIELD(loop, NO_SWITCH) == Py_False;
}

/* The first ready task, if it has started, and so can be switched to; else NULL. A new
 * reference. */
static PyObject *
next_task(void)
{
    PyObject *next = PySequence_Size(ready) > 0 ? PySequence_GetItem(ready, 0) : NULL;
    if (is_task(next)) {
        PyObject *green = FIELD(next, GREENLET);
        if (green != NULL && green != Py_None && FIELD(next, VALUE) != NULL) {
            return next;
        }
    }
    Py_XDECREF(next);
    return NULL;
}

/* The switch from `task` to `next` has raised. If that has not run, it goes back to the
 * queue. */
static void
not_switched(PyObject *task, PyObject *next)
{
    if (FIELD(loop, CURRENT) != next || next == task) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *done = PyObject_CallFunctionObjArgs(put_back, next, NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable(put_back);
    }
    Py_XDECREF(done);
    set(&FIELD(loop, CURRENT), task);
    set(&FIELD(task, STATUS), status_run);
    PyErr_Restore(type, value, traceback);
}

/* Switches from `task` to `next`, which is the first in the queue. */
static PyObject *
switch_to(PyObject *task, PyObject *next, long left)
{
    PyObject *fewer = PyLong_FromLong(left - 1);
    PyObject *first = fewer == NULL ? NULL : PyObject_CallNoArgs(popleft);
    if (first == NULL) {
        Py_XDECREF(fewer);
        return NULL;
    }
    Py_DECREF(first);
    set(&FIELD(loop, LEFT), fewer);
    Py_DECREF(fewer);
    set(&FIELD(loop, CURRENT), next);
    set(&FIELD(next, STATUS), status_run);
    /* Held, as a call in Python holds it: its task may be over before the call returns. */
    PyObject *green = Py_NewRef(FIELD(next, GREENLET));
    PyObject *result = PyObject_CallMethodObjArgs(green, name_switch, NULL);
    Py_DECREF(green);
    if (result == NULL) {
        not_switched(task, next);
    }
    return result;
}

/* Switches from `task` to the next one, or to the loop. Returns the value that `task` was
 * woken with. That stays in its field until then: as an argument of a switch it would be
 * kept for as long as the task waits that has switched. */
static PyObject *
block(PyObject *task, PyObject *what, PyObject *status)
{
    set(&FIELD(task, WHAT), what);
    set(&FIELD(task, STATUS), status);
    const long left = PyLong_AsLong(FIELD(loop, LEFT));
    if (left == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *next = left > 0 ? next_task() : NULL;
    Py_INCREF(task);
    PyObject *result = next == NULL ? PyObject_CallNoArgs(FIELD(loop, TO_HUB)) : switch_to(task, next, left);
    Py_XDECREF(next);
    /* Now, and not where the task waits next: a finalizer, which may wait too, would run
     * while something else is about to wake the task. The caller still has `what`. */
    set(&FIELD(task, WHAT), Py_None);
    if (result != NULL && FIELD(task, VALUE) != NULL) {
        Py_DECREF(result);
        result = FIELD(task, VALUE);
        FIELD(task, VALUE) = Py_NewRef(Py_None);
    }
    Py_DECREF(task);
    return result;
}

/* park(what, status=WAIT) */
static PyObject *
park(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count < 1 || count > 2 || loop == NULL) {
        PyErr_SetString(PyExc_TypeError, "park takes what is waited on, and a status");
        return NULL;
    }
    PyObject *status = count == 2 ? args[1] : status_wait;
    PyObject *task = FIELD(loop, CURRENT);
    const int plain = runs(task);
    if (plain < 0) {
        return NULL;
    }
    if (!plain || !may_switch(task) || FIELD(task, OVER) != Py_None) {
        return PyObject_CallFunctionObjArgs(plain_park, args[0], status, NULL);
    }
    return block(task, args[0], status);
}

/* pause() */
static PyObject *
pause_task(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (loop == NULL) {
        PyErr_SetString(PyExc_TypeError, "there is no loop yet");
        return NULL;
    }
    PyObject *task = FIELD(loop, CURRENT);
    const int plain = runs(task);
    if (plain < 0) {
        return NULL;
    }
    if (!plain || !may_switch(task)) {
        return PyObject_CallNoArgs(plain_pause);
    }
    if (FIELD(loop, DEFERRED) == NULL || PyList_Append(FIELD(loop, DEFERRED), task) < 0) {
        return NULL;
    }
    PyObject *result = block(task, its_turn, status_ready);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    return Py_NewRef(Py_None);
}

/* wake(task, value=None) */
static PyObject *
wake(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count < 1 || count > 2 || !is_task(args[0])) {
        PyErr_SetString(PyExc_TypeError, "wake takes a task, and a value");
        return NULL;
    }
    PyObject *task = args[0];
    set(&FIELD(task, VALUE), count == 2 ? args[1] : Py_None);
    set(&FIELD(task, STATUS), status_ready);
    return PyObject_CallFunctionObjArgs(append, task, NULL);
}

/* begin(loop, main, plain_park, plain_pause, put_back, getcurrent): the first call */
static PyObject *
begin(PyObject *module, PyObject *args)
{
    PyObject *given[6];
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!OOOO", loop_type, &given[0], task_type, &given[1], &given[2], &given[3], &given[4],
                          &given[5])) {
        return NULL;
    }
    PyObject *queue = PyObject_GetAttrString(given[0], "ready");
    PyObject *add = queue == NULL ? NULL : PyObject_GetAttrString(queue, "append");
    PyObject *take = add == NULL ? NULL : PyObject_GetAttrString(queue, "popleft");
    const int found = take != NULL;
    if (found) {
        set(&loop, given[0]);
        set(&main_task, given[1]);
        set(&plain_park, given[2]);
        set(&plain_pause, given[3]);
        set(&put_back, given[4]);
        set(&getcurrent, given[5]);
        set(&ready, queue);
        set(&append, add);
        set(&popleft, take);
    }
    Py_XDECREF(queue);
    Py_XDECREF(add);
    Py_XDECREF(take);
    return found ? Py_NewRef(Py_None) : NULL;
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef functions[] = {
    {"begin", begin, METH_VARARGS, "begin(loop, main, plain_park, plain_pause, put_back, getcurrent)"},
    {"park", FAST(park), "park(what, status=WAIT): blocks the current task until wake(task, value), and returns that value"},
    {"pause", pause_task, METH_NOARGS, "pause(): lets every other ready task and pending I/O go first"},
    {"wake", FAST(wake), "wake(task, value=None): makes a parked task ready"},
    {NULL, NULL, 0, NULL},
};

#define MEMBER(name, number) {name, T_OBJECT_EX, offsetof(Fields, field) + (number) * sizeof(PyObject *), 0, NULL}

static PyMemberDef task_members[] = {
    MEMBER("_blow", BLOW),     MEMBER("_greenlet", GREENLET), MEMBER("_over", OVER),
    MEMBER("_status", STATUS), MEMBER("_value", VALUE),       MEMBER("_what", WHAT),
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef loop_members[] = {
    MEMBER("current", CURRENT),     MEMBER("deferred", DEFERRED), MEMBER("left", LEFT),
    MEMBER("no_switch", NO_SWITCH), MEMBER("to_hub", TO_HUB),     {NULL, 0, 0, 0, NULL},
};

/* Adds a base class of the given members. */
static PyTypeObject *
add_type(PyObject *module, const char *name, const char *full_name, PyMemberDef *members)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, "The fields that `park` and `wake` use."},
        {Py_tp_dealloc, fields_dealloc},
        {Py_tp_traverse, fields_traverse},
        {Py_tp_clear, fields_clear},
        {Py_tp_members, members},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = full_name,
        .basicsize = sizeof(Fields),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type != NULL && PyModule_AddObjectRef(module, name, type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static int
start(PyObject *module)
{
    loop_type = add_type(module, "LoopFields", "silly._core._speedups.LoopFields", loop_members);
    task_type = loop_type == NULL ? NULL : add_type(module, "TaskFields", "silly._core._speedups.TaskFields", task_members);
    its_turn = PyUnicode_InternFromString("its turn");
    status_run = PyUnicode_InternFromString("RUN");
    status_wait = PyUnicode_InternFromString("WAIT");
    status_ready = PyUnicode_InternFromString("READY");
    name_switch = PyUnicode_InternFromString("switch");
    return task_type == NULL || PyErr_Occurred() ? -1 : 0;
}

static struct PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "silly._core._speedups",
    .m_doc = "Switching from task to task in C.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    return PyModuleDef_Init(&definition);
}
