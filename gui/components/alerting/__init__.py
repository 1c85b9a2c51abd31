"""Parts that tell a person of alerts: notifications of the browser, and the switch for them."""
