"""The online loop: act, imagine, learn, adapt."""
