/* geneve.c: GENEVE's options, templates, loops and description. */
#include "geneve.h"

bool geneve_option_listed(const struct ov_policy *y, uint32_t option)
{
    uint64_t low = 0, high = y->option_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (y->options[middle] < option)
            low = middle + 1;
        else
            high = middle;
    }
    return low < y->option_count && y->options[low] == option;
}

struct geneve_answer geneve_check_rare(const struct ov_policy *y, const uint8_t *header,
                                       uint32_t left)
{
    struct geneve_answer answer = {.status = OV_HEADER_TRUNCATED};
    if (left < GENEVE_LENGTH)
        return answer;
    uint16_t protocol = get16(header + 2);
    bool ip = protocol == ETHERTYPE_IPV4 || protocol == ETHERTYPE_IPV6;
    uint32_t options = (header[0] & GENEVE_OPTIONS_MASK) * 4u;
    if (header[0] & GENEVE_VERSION_MASK)
        answer.status = OV_GENEVE_VERSION;
    else if (header[1] & GENEVE_O && y->base != OV_LENIENT)
        answer.status = OV_GENEVE_CONTROL;
    else if (protocol != GENEVE_TEB && !(ip && y->ip))
        answer.status = OV_GENEVE_PROTOCOL;
    else if (options <= left - GENEVE_LENGTH)
        answer.status = (uint8_t)geneve_check_options(y, header + GENEVE_LENGTH, options);
    answer.length = GENEVE_LENGTH + options;
    answer.ethertype = ip ? protocol : 0;
    return answer;
}

/* Whether options are whole; gives the C bit. */
static bool options_good(const uint8_t *option, uint32_t left, uint8_t *flags)
{
    while (left != 0) {
        uint32_t length = GENEVE_OPTION_LENGTH + (option[3] & GENEVE_OPTION_WORDS) * 4u;
        if (length > left)
            return false;
        if (option[2] & GENEVE_OPTION_CRITICAL)
            *flags |= GENEVE_C;
        option += length;
        left -= length;
    }
    return true;
}

int geneve_init(struct ov_tunnel *t, const struct ov_config *config)
{
    uint32_t options = config->option_bytes;
    uint8_t flags = config->oam ? GENEVE_O : 0;
    if (options % 4 != 0 || options > sizeof config->options ||
        !options_good(config->options, options, &flags))
        return -1;
    uint8_t *header = udp_begin(t, config, GENEVE_LENGTH + options);
    if (header == NULL)
        return -1;
    header[0] = (uint8_t)(options / 4);
    header[1] = flags;
    put16(header + 2, config->payload ? 0 : GENEVE_TEB);
    put24(header + 4, (uint32_t)config->key);
    memcpy(header + GENEVE_LENGTH, config->options, options);
    t->shim_sum = checksum_sum(header, GENEVE_LENGTH + options);
    return 0;
}

size_t geneve_encap(const struct ov_tunnel *t, struct ov_batch *b, uint64_t sequence)
{
    return kernel_encap(t, b, sequence, geneve_emit, OV_GENEVE, UDP_LENGTH + GENEVE_LENGTH);
}

size_t geneve_copy(const struct ov_tunnel *t, struct ov_batch *in, struct ov_batch *out,
                   uint32_t mtu, uint64_t sequence)
{
    return kernel_copy(t, in, out, mtu, sequence, geneve_emit, OV_GENEVE,
                       UDP_LENGTH + GENEVE_LENGTH);
}

int geneve_describe(const uint8_t *header, size_t length, const struct outer *o,
                    struct ov_config *config)
{
    const uint8_t *geneve = udp_describe(header, length, o, GENEVE_LENGTH, config);
    uint8_t flags = 0;
    if (geneve == NULL)
        return -1;
    uint32_t options = (geneve[0] & GENEVE_OPTIONS_MASK) * 4u;
    if ((size_t)(header + length - geneve) < GENEVE_LENGTH + options ||
        !options_good(geneve + GENEVE_LENGTH, options, &flags))
        return -1;
    config->oam = (geneve[1] & GENEVE_O) != 0;
    config->payload = get16(geneve + 2) != GENEVE_TEB;
    config->key = get24(geneve + 4);
    config->option_bytes = (uint8_t)options;
    memcpy(config->options, geneve + GENEVE_LENGTH, options);
    return 0;
}
