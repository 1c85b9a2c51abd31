"""MailerQ's keys for features that Mailrace does not have, so that a config file written for MailerQ loads as it is.

Collected from MailerQ's documentation, versions 3.0 to 5.13. Each gives one warning.
"""

_NAMES = """
cache-dimensions cache-size
cluster-host cluster-password cluster-user cluster-verify cluster-vhost
daemon database database-engine database-host database-name database-password database-threads database-user
database-validate disable-crash-post disable-crash-report
dns-buffersize dns-capacity dns-expire dns-force dns-getaddrinfo dns-helofile dns-interval dns-rotate dns-sockets
dns-spread dns-threads
download-bin-log-file download-blacklist download-cache download-log-compression download-log-directory
download-log-file download-log-format download-log-history download-log-maxage download-log-maxsize
download-log-prefix download-proxy download-ttl download-user-agent download-whitelist
dsn-advertise dsn-envelope dsn-mta dsn-notify dsn-ret
error-exchange error-log error-log-directory error-log-prefix error-routingkey
heartbeat heartbeat-enabled heartbeat-ip heartbeat-period heartbeat-port
license loopback max-messages maxdelivertime paused plugin-directory proxy-server
rabbitmq-consumers rabbitmq-flush-qos rabbitmq-host rabbitmq-lazy rabbitmq-messages rabbitmq-minqos rabbitmq-mirror
rabbitmq-mirror-expire rabbitmq-password rabbitmq-publishers rabbitmq-threads rabbitmq-throttle rabbitmq-user
rabbitmq-vhost
received-bin-log-file received-log-compression received-log-directory received-log-file received-log-format
received-log-history received-log-maxage received-log-maxsize received-log-prefix
render-useragent
send-bin-log-directory send-bin-log-file send-bin-log-history send-bin-log-maxage send-bin-log-maxsize
send-bin-log-prefix send-log-compression send-log-directory send-log-file send-log-format send-log-maxage
send-log-prefix
smarthost smarthost-password smarthost-port smarthost-username
smtp-auth-results smtp-authentication-results smtp-check smtp-check-dkim smtp-check-dmarc smtp-check-spf
smtp-connections-in smtp-connections-out smtp-defaultip smtp-protection smtp-proxy smtp-ranges smtp-sink-address
smtp-sink-ip smtp-sink-password smtp-sink-port smtp-sink-username smtp-threads smtp-validate-address
spamassassin-host spamassassin-port spool-extract spool-open-files spool-threads
storage-address storage-policy storage-reschedule storage-threads storage-timeout storage-ttl
validate-envelope validate-recipient
www-auth www-bin-log-file www-cache-control www-connections www-host www-log-compression www-log-directory
www-log-file www-log-format www-log-history www-log-maxage www-log-maxsize www-log-prefix
"""

KEYS = frozenset(_NAMES.split())
