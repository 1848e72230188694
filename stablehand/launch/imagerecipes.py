"""What goes into each image that Stablehand can build: Debian packages, files of its own, how it starts. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SHELL = (
    "base-files base-passwd dash bash coreutils sed grep findutils hostname libc-bin procps iproute2 util-linux curl "
    "ca-certificates ncurses-base"
)
PATH = "/usr/local/apache2/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSWD = """root:x:0:0:root:/root:/bin/sh
mysql:x:999:999:mysql:/var/lib/mysql:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nmysql:x:999:\nwww-data:x:33:\nnogroup:x:65534:\n"
COMMON = {
    "etc/passwd": PASSWD,
    "etc/group": GROUP,
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

_HTTPD_CONF = """ServerRoot /usr/local/apache2
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
Listen 80
User www-data
Group www-data
PidFile /usr/local/apache2/logs/httpd.pid
DocumentRoot /usr/local/apache2/htdocs
DirectoryIndex index.html
TypesConfig /etc/mime.types
ErrorLog /proc/self/fd/2
LogFormat "%h %l %u %t \\"%r\\" %>s %b" common
CustomLog /proc/self/fd/1 common
<Directory />
  AllowOverride None
  Require all denied
</Directory>
<Directory /usr/local/apache2/htdocs>
  Options FollowSymLinks
  Require all granted
</Directory>
"""
_HTTPD_START = """#!/bin/sh
set -e
rm -f /usr/local/apache2/logs/httpd.pid
exec /usr/sbin/apache2 -DFOREGROUND -f /usr/local/apache2/conf/httpd.conf "$@"
"""

_MARIADB_CNF = """[client-server]
socket = /run/mysqld/mysqld.sock
[mariadbd]
datadir = /var/lib/mysql
bind-address = 0.0.0.0
skip-name-resolve
!includedir /etc/mysql/conf.d/
"""
_MARIADB_START = r"""#!/bin/sh
set -e
data=/var/lib/mysql
case "${1:-}" in
  ""|-*) set -- mariadbd "$@" ;;
esac
if [ "$1" = mariadbd ] || [ "$1" = mysqld ]; then
  shift
  user=mysql
  mkdir -p "$data" /run/mysqld
  chown mysql:mysql "$data" /run/mysqld || user=root
  if [ ! -d "$data/mysql" ]; then
    password="${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}"
    if [ -z "$password" ] && [ -z "${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-${MYSQL_ALLOW_EMPTY_PASSWORD:-}}" ]; then
      echo "set MYSQL_ROOT_PASSWORD, or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1" >&2
      exit 1
    fi
    quoted=$(printf %s "$password" | sed -e 's/\\/\\\\/g' -e "s/'/''/g")
    mariadb-install-db --user=$user --datadir="$data" --skip-test-db --force \
      --auth-root-authentication-method=normal >&2
    database="${MARIADB_DATABASE:-${MYSQL_DATABASE:-}}"
    {
      echo "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
      echo "FLUSH PRIVILEGES;"
      echo "ALTER USER root@localhost IDENTIFIED BY '$quoted';"
      echo "CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY '$quoted';"
      echo "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION;"
      if [ -n "$database" ]; then echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"; fi
    } | mariadbd --user=$user --datadir="$data" --bootstrap || { rm -rf "$data/mysql"; exit 1; }
  fi
  exec mariadbd --user=$user "$@"
fi
exec "$@"
"""


def _as_user(name: str, home: str) -> dict[str, str]:
    """COMMON, with user and group 999 being `name`, as in this software's official image."""
    line = f"{name}:x:999:999:{name}:{home}:/bin/sh"
    passwd = [line if row.startswith("mysql:") else row for row in PASSWD.splitlines()]
    return {
        **COMMON,
        "etc/passwd": "\n".join(passwd) + "\n",
        "etc/group": GROUP.replace("mysql:x:999:", f"{name}:x:999:"),
    }


@dataclass(frozen=True)
class Recipe:
    """`files`: path without leading slash -> text; those below a bin folder are executable. `links`: path -> target."""

    reference: str
    packages: tuple[str, ...] = ()
    merged_usr: bool = True
    files: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    busybox: bool = False  # a link for every applet
    python: bool = False  # this interpreter and this package
    config: Mapping[str, object] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "httpd": Recipe(
        "docker.io/library/httpd:latest",
        tuple(f"{_SHELL} apache2-bin mime-support".split()),
        files={
            **COMMON,
            "usr/local/apache2/conf/httpd.conf": _HTTPD_CONF,
            "usr/local/apache2/htdocs/index.html": "<html><body><h1>It works!</h1></body></html>\n",
            "usr/local/bin/httpd-foreground": _HTTPD_START,
        },
        folders=("usr/local/apache2/logs",),
        config={
            "Env": [f"PATH={PATH}", "HTTPD_PREFIX=/usr/local/apache2"],
            "Cmd": ["httpd-foreground"],
            "WorkingDir": "/usr/local/apache2",
            "ExposedPorts": {"80/tcp": {}},
        },
    ),
    "busybox": Recipe(
        "docker.io/library/busybox:latest",
        ("busybox-static",),
        merged_usr=False,
        files=COMMON,
        folders=("tmp", "root", "var/run", "dev", "proc", "sys"),
        busybox=True,
        config={"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]},
    ),
    "mariadb": Recipe(
        "docker.io/library/mariadb:latest",
        tuple(f"{_SHELL} mariadb-server mariadb-client".split()),
        files={
            **COMMON,
            "etc/mysql/my.cnf": _MARIADB_CNF,
            "usr/local/bin/docker-entrypoint.sh": _MARIADB_START,
        },
        folders=("etc/mysql/conf.d", "var/lib/mysql", "run/mysqld"),
        config={
            "Env": [f"PATH={PATH}"],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["mariadbd"],
            "ExposedPorts": {"3306/tcp": {}},
        },
    ),
    "provisioner": Recipe(
        "registry.cn-hangzhou.aliyuncs.com/open-ali/nfs-client-provisioner:latest",
        files=COMMON,
        folders=("tmp", "persistentvolumes"),
        python=True,
        config={
            "Env": ["PATH=/opt/python/bin", "PYTHONPATH=/opt/stablehand", "PYTHONUNBUFFERED=1"],
            "Entrypoint": ["/opt/python/bin/python3", "-m", "stablehand", "provisioner"],
        },
    ),
    # Patroni and PostgreSQL, as upstream's kubernetes/Dockerfile puts them together; settings come from the manifest.
    "patroni": Recipe(
        "docker.io/library/patroni:latest",
        tuple(f"{_SHELL} postgresql-15 patroni".split()),
        files=_as_user("postgres", "/home/postgres"),
        folders=("tmp", "home/postgres", "run/postgresql", "var/lib/postgresql"),
        config={
            "Env": [f"PATH=/usr/lib/postgresql/15/bin:{PATH}", "LC_ALL=C.UTF-8"],
            "User": "999:999",
            "Cmd": ["patroni", "/etc/patroni/patroni.yml"],
            "ExposedPorts": {"5432/tcp": {}, "8008/tcp": {}},
        },
    ),
    "redis": Recipe(
        "docker.io/library/redis:latest",
        tuple(f"{_SHELL} redis-server redis-sentinel".split()),
        files=_as_user("redis", "/data"),
        folders=("tmp", "data"),
        config={
            "Env": [f"PATH={PATH}"],
            "Cmd": ["redis-server"],
            "WorkingDir": "/data",
            "ExposedPorts": {"6379/tcp": {}},
        },
    ),
    "rabbitmq": Recipe(
        "docker.io/library/rabbitmq:latest",
        tuple(f"{_SHELL} rabbitmq-server".split()),
        files=_as_user("rabbitmq", "/var/lib/rabbitmq"),
        folders=("tmp", "etc/rabbitmq", "var/lib/rabbitmq"),
        config={
            # The programs themselves: Debian's wrappers want to be root, to become another user.
            "Env": [f"PATH=/usr/lib/rabbitmq/bin:{PATH}", "HOME=/var/lib/rabbitmq", "LC_ALL=C.UTF-8"],
            "Cmd": ["rabbitmq-server"],
            "ExposedPorts": {"4369/tcp": {}, "5672/tcp": {}, "25672/tcp": {}},
        },
    ),
    "etcd": Recipe(
        "docker.io/library/etcd:latest",
        tuple(f"{_SHELL} etcd-server etcd-client".split()),
        files=COMMON,
        folders=("tmp",),
        config={
            "Env": [f"PATH={PATH}", "ETCDCTL_API=3"],
            "Cmd": ["etcd"],
            "ExposedPorts": {"2379/tcp": {}, "2380/tcp": {}},
        },
    ),
}
