"""The restricted profile of Kubernetes' pod security standards (1.31, Linux pods), as a function of a pod's spec."""

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
VOLUMES = (
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected"),
    "secret",
)
SECCOMP = ("RuntimeDefault", "Localhost")
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    "net.ipv4.tcp_keepalive_probes",
)


def violations(pod):
    """Everything in a pod's spec that the restricted profile refuses; also what it leaves unsaid and has to say."""
    found = [f"{key} is on" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    for volume in pod.get("volumes", ()):
        found += [f"volume {volume['name']} is a {kind}" for kind in set(volume) - {"name", *VOLUMES}]
    context = pod.get("securityContext", {})
    found += _of_both("the pod", context)
    for one in context.get("sysctls", ()):
        found += [f"sysctl {one['name']}"] if one["name"] not in SYSCTLS else []
    for kind in CONTAINERS:
        for container in pod.get(kind, ()):
            found += _of_container(container, context)
    return sorted(found)


def _of_both(where, context):
    """What a pod and a container may say alike."""
    found = []
    if context.get("runAsUser") == 0:
        found.append(f"{where} runs as user 0")
    if context.get("runAsNonRoot") is False:
        found.append(f"{where} may run as root")
    if context.get("seccompProfile", {}).get("type", SECCOMP[0]) not in SECCOMP:
        found.append(f"{where} has seccomp {context['seccompProfile']['type']}")
    if context.get("appArmorProfile", {}).get("type", SECCOMP[0]) not in SECCOMP:
        found.append(f"{where} has AppArmor {context['appArmorProfile']['type']}")
    options = context.get("seLinuxOptions", {})
    if options.get("type", "") not in SELINUX_TYPES or options.get("user") or options.get("role"):
        found.append(f"{where} chooses SELinux options")
    if context.get("windowsOptions", {}).get("hostProcess"):
        found.append(f"{where} is a host process")
    return found


def _of_container(container, pod):
    context, where = container.get("securityContext", {}), f"container {container['name']}"
    found = _of_both(where, context)
    if context.get("allowPrivilegeEscalation") is not False:
        found.append(f"{where} may gain privileges")
    if context.get("privileged"):
        found.append(f"{where} is privileged")
    if not context.get("runAsNonRoot", pod.get("runAsNonRoot")):
        found.append(f"{where} does not say runAsNonRoot")
    if "seccompProfile" not in {**pod, **context}:
        found.append(f"{where} does not say a seccomp profile")
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        found.append(f"{where} keeps capabilities")
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        found.append(f"{where} adds capabilities")
    if context.get("procMount", "Default") != "Default":
        found.append(f"{where} unmasks /proc")
    found += [
        f"{where} takes port {port['hostPort']} of the host"
        for port in container.get("ports", ())
        if port.get("hostPort")
    ]
    probes = [container.get(name) or {} for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = [(container.get("lifecycle") or {}).get(name) or {} for name in ("postStart", "preStop")]
    for probe in probes + hooks:
        if any(probe.get(kind, {}).get("host") for kind in ("httpGet", "tcpSocket")):
            found.append(f"{where} probes another host")
    return found
