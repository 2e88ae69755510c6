/* path.c: see path.h. */
#include "path.h"

void paths_begin(struct paths *p)
{
    memset(p, 0, sizeof *p);
    p->least = UINT32_MAX;
}

void paths_set(struct paths *p, const struct path_address *remote, uint32_t mtu)
{
    uint32_t count = __atomic_load_n(&p->count, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(&p->list[i].remote, remote, sizeof *remote) == 0) {
            __atomic_store_n(&p->list[i].mtu, mtu, __ATOMIC_RELAXED);
            return;
        }
    if (count == PATHS_MAX) { /* no place: let it hold for all */
        if (mtu < __atomic_load_n(&p->least, __ATOMIC_RELAXED))
            __atomic_store_n(&p->least, mtu, __ATOMIC_RELAXED);
        return;
    }
    p->list[count] = (struct path){*remote, mtu};
    __atomic_store_n(&p->count, count + 1, __ATOMIC_RELEASE);
}

uint32_t paths_mtu(const struct paths *p, const uint8_t *ip, uint32_t link)
{
    uint32_t count = __atomic_load_n(&p->count, __ATOMIC_ACQUIRE);
    uint32_t mtu = __atomic_load_n(&p->least, __ATOMIC_RELAXED);
    bool v4 = ip[0] >> 4 == 4;
    struct path_address to = {.family = v4 ? 4 : 6};
    memcpy(to.bytes, ip + (v4 ? 16 : 24), v4 ? 4 : 16);
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(&p->list[i].remote, &to, sizeof to) == 0) {
            uint32_t its = __atomic_load_n(&p->list[i].mtu, __ATOMIC_RELAXED);
            mtu = its < mtu ? its : mtu;
            break;
        }
    return mtu < link ? mtu : link;
}
